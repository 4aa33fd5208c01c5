"""A simulated accelerator in pure Python, `simulated:0` and `simulated:1`, for tests.

PyTorch loads it at `import torch` if `PYTHONPATH` contains the parent folder, which has an entry
point of the group `torch.backends`. It is not installed.

Its memory is CPU memory that only the device may read. Kernels are queued to one thread per device
and are completed at `synchronize`, `.cpu()` or `.item()`. Code that forgets to synchronize measures
the launch or reads old values. Its kernels are the CPU's, so its bits are identical to the CPU's.

Environment variables, read once:

- `SIMULATED_DEVICES`: the number of devices; 2.
- `SIMULATED_LAG_US`: additional microseconds per kernel; 0.
- `SIMULATED_GRAPHS`: if set, the devices have graphs like CUDA's.
- `SIMULATED_NAMES`: the models of the devices, comma-separated; `Simulated 1` by default.
- `SIMULATED_SHORT_GOLDEN`: if set, the golden check of the universal training has few epochs.
- `SIMULATED_FAULT`: faults to inject, comma-separated; see `faults`.
- `SIMULATED_TRACE`: a file with lines of `xorbench` to trace; see `lines`.
"""
