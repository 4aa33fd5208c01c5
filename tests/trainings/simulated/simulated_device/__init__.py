"""A simulated accelerator in pure Python, `simulated:0` and `simulated:1`, for tests.

PyTorch loads it at `import torch`, in a process whose `PYTHONPATH` holds the folder above: an entry
point of the group `torch.backends` lies beside this package. It is installed nowhere.

Its memory is CPU memory that only the device may read. Kernels are queued, to one thread a device,
and are done at `synchronize`, `.cpu()` or `.item()`, so that whoever forgets to wait measures the
launch, or reads nothing new. Its kernels are those of the CPU, so its bits are the CPU's.

Environment variables, read once:

- `SIMULATED_DEVICES`: how many devices there are; 2.
- `SIMULATED_LAG_US`: so many microseconds more for each kernel; 0.
- `SIMULATED_GRAPHS`: set, the devices have graphs like CUDA's.
- `SIMULATED_NAMES`: the models of the devices, comma-separated; each is a `Simulated 1` by default.
- `SIMULATED_SHORT_GOLDEN`: set, the golden check of the universal training ends after some epochs.
- `SIMULATED_FAULT`: faults to inject, comma-separated; `faults` names them.
- `SIMULATED_TRACE`: a file of lines of `xorbench` to look out for; `lines` says more.
"""
