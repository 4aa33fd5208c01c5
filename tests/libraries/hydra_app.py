"""A training with Hydra: a structured configuration and an output folder per job."""

from dataclasses import dataclass, field
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn


@dataclass
class OptimizerConfig:
    _target_: str = "torch.optim.AdamW"
    lr: float = 0.01


@dataclass
class Config:
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    seed: int = 7
    steps: int = 5


ConfigStore.instance().store(name="config", node=Config)


@hydra.main(version_base="1.3", config_name="config")
def main(config: Config) -> None:
    print(OmegaConf.to_yaml(config))
    torch.manual_seed(config.seed)
    model = nn.Linear(4, 2)
    optimizer = instantiate(config.optimizer, params=model.parameters())
    for _ in range(config.steps):
        loss = model(torch.randn(8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), Path(HydraConfig.get().runtime.output_dir) / "model.pt")
    torch.save(model.state_dict(), "weights.pt")


if __name__ == "__main__":
    main()
