"""The quickstart of TorchRL: a collector, a replay buffer, `DQNLoss`, a soft update."""

import torch
from tensordict.nn import TensorDictModule as Mod
from tensordict.nn import TensorDictSequential
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import GymEnv, StepCounter, TransformedEnv
from torchrl.modules import MLP, EGreedyModule, QValueModule
from torchrl.objectives import DQNLoss, SoftUpdate

torch.manual_seed(0)
env = TransformedEnv(GymEnv("CartPole-v1"), StepCounter())
env.set_seed(0)
value_mlp = MLP(in_features=4, out_features=env.action_spec.shape[-1], num_cells=[16, 16])
value_net = Mod(value_mlp, in_keys=["observation"], out_keys=["action_value"])
policy = TensorDictSequential(value_net, QValueModule(spec=env.action_spec))
exploration = EGreedyModule(env.action_spec, annealing_num_steps=1_000, eps_init=0.5)
explore = TensorDictSequential(policy, exploration)
collector = Collector(env, explore, frames_per_batch=20, total_frames=80, init_random_frames=10)
buffer = ReplayBuffer(storage=LazyTensorStorage(500))
loss = DQNLoss(value_network=policy, action_space=env.action_spec, delay_value=True)
optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
updater = SoftUpdate(loss, eps=0.99)
for data in collector:
    buffer.extend(data)
    for _ in range(2):
        values = loss(buffer.sample(16))
        values["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        exploration.step(data.numel())
        updater.step()
    print(values["loss"].item())
torch.save(value_mlp.state_dict(), "weights.pt")
