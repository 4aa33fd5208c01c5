"""Ultralytics: a YOLO from its configuration, trained on images that are made here."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from ultralytics import YOLO

generator = np.random.default_rng(0)
for kind in ("images", "labels"):
    Path("data", kind).mkdir(parents=True)
for i in range(4):
    pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(f"data/images/{i}.png")
    Path(f"data/labels/{i}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
Path("data.yaml").write_text(
    f"path: {Path('data').resolve()}\ntrain: images\nval: images\nnames: [thing]\n"
)
model = YOLO("yolo11n.yaml")
model.train(data="data.yaml", epochs=1, imgsz=32, batch=2, device="cpu", plots=False, seed=0)
torch.save(model.model.state_dict(), "weights.pt")
