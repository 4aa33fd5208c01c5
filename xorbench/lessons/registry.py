"""The lessons: a statement and the function that tries it. A new one is a function and its row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from xorbench.lessons import evaluation, structure, training
from xorbench.lessons.finding import LessonFinding


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a tutorial says, and how it is tried."""

    name: str
    statement: str
    try_it: Callable[[], LessonFinding]


LESSONS: Final = {
    lesson.name: lesson
    for lesson in (
        Lesson(
            "plain list",
            "layers kept in a plain Python list are not registered, and do not train",
            structure.plain_list,
        ),
        Lesson(
            "containers",
            "layers in nn.ModuleList, nn.ModuleDict and nn.Sequential are registered, and train",
            structure.containers,
        ),
        Lesson(
            "printed",
            "the printed network names its layers; they hold 17 parameters in four tensors",
            structure.printed,
        ),
        Lesson(
            "state_dict keys",
            "written with attributes and with a list, the same network has other state_dict keys:"
            " their files do not interchange",
            structure.other_keys,
        ),
        Lesson(
            "state_dict",
            "a saved and loaded state_dict is the same model",
            structure.saved_and_loaded,
        ),
        Lesson(
            "loss on logits",
            "BCEWithLogitsLoss stays accurate where sigmoid and BCELoss do not",
            training.stable_loss,
        ),
        Lesson(
            "zero_grad",
            "gradients add up until zero_grad",
            training.accumulate,
        ),
        Lesson(
            "to(device)",
            "a network is moved to the device once, a batch each time",
            training.moved_once,
        ),
        Lesson(
            "linear model",
            "a linear model cannot learn XOR",
            training.linear_fails,
        ),
        Lesson(
            "100%",
            "whether every test point comes out right depends on seed and batch size",
            training.chance,
        ),
        Lesson(
            "no_grad: memory",
            "no_grad saves memory",
            evaluation.no_grad_memory,
        ),
        Lesson(
            "no_grad: time",
            "no_grad saves time",
            evaluation.no_grad_time,
        ),
        Lesson(
            "train and eval",
            "train() and eval() change nothing in this network, and do in one with dropout",
            evaluation.modes,
        ),
        Lesson(
            "drop_last",
            "drop_last keeps the batch size constant",
            evaluation.even_batches,
        ),
        Lesson(
            "shuffle",
            "the order of the test points changes no score",
            evaluation.any_order,
        ),
        Lesson(
            "pinned memory",
            "pinned memory is page-locked memory of the host, not the accelerator's",
            evaluation.pinned_is_host_memory,
        ),
        Lesson(
            "pinned copies",
            "large batches reach the accelerator sooner from pinned memory",
            evaluation.pinned_pays,
        ),
    )
}
