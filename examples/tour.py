# %% [markdown]
# # FIMI from Python
#
# The whole public interface of `fimi` in one file. An editor or Jupyter runs it cell by cell
# (`# %%` begins a cell); `python tour.py` runs it as a script, in about half a minute. What it
# makes goes into a folder `tour`, which must not exist yet.

# %%
from pathlib import Path

import numpy as np

import fimi

folder = Path("tour")
if folder.exists():
    raise SystemExit(f"the folder {folder.absolute()} exists; remove it or work in another one")
folder.mkdir()

# %% [markdown]
# ## A plan
#
# A problem is arrays over devices, in SI units; an array of one holds for every device. The plan
# says how many synthetic samples each device gets, how fast it computes and how it sends. It comes
# with a proof of how far from the optimum it can be.

# %%
problem = fimi.Problem(
    devices=("pi", "mini-pc"),
    local_counts=np.array([[40, 3, 0, 12], [0, 60, 25, 8]]),
    epochs=5,
    cycles_per_sample=np.array([4.0e7, 2.0e7]),
    capacitance_w_per_hz3=np.array([6.0e-28, 2.0e-28]),
    frequency_min_hz=np.array([0.6e9, 0.8e9]),
    frequency_max_hz=np.array([1.8e9, 3.2e9]),
    channel_gain=np.array([1.0e-10, 3.0e-11]),
    noise_density_w_per_hz=np.array([4.0e-21]),
    transmit_power_max_w=np.array([0.2]),
    payload_bits=np.array([1.2e6]),
    t_max_s=np.array([20.0]),
    bandwidth_hz=0.4e6,
    generated_max=np.array([500.0]),
    idle_power_w=np.array([2.7, 6.0]),
)
found = fimi.plan(problem)
for share in found.devices:
    print(f"{share.device}: {share.point.frequency_hz / 1e9:.2f} GHz, {share.compute_j:.2f} J")
print(f"board energy of a round {found.board.energy_j:.4g} J", end=", ")
print(f"dynamic {found.dynamic.energy_j:.4g} J, in {found.round_s:.3g} s")
print(f"{found.objective} energy made least: no plan needs less than {found.bound_j:.4g} J")

# %% [markdown]
# ## A run
#
# A federation of emulated devices on this machine: the same processes and messages as on a real
# fleet. Any key of the configuration can be set; `fimi check` lists them all. `say=print` shows
# progress.

# %%
small = {
    "fleet.devices": 2,
    "rounds.count": 2,
    "run.strategy": "tfl",
    "deployment.export": False,
}
run = fimi.dry_run(settings=small, run_dir=folder / "first", say=print)
print(run.info.status, [f"{each.evaluation.accuracy:.0%}" for each in run.rounds])

# %% [markdown]
# ## A stored run is data
#
# Joules come with what they are: value, kind (measured, modelled or emulated), scope, uncertainty.
# A joule that could not be read is `None`, never 0. `summarise` gives the figures of the report.

# %%
run = fimi.read_run(folder / "first")
for each in run.rounds:
    for device in each.devices:
        print(each.number, device.device, device.energy)
figures = fimi.summarise(run)
print(f"{figures.energy.value}, predicted {figures.compared.predicted_j:.1f} J")

# %% [markdown]
# ## Many runs compared
#
# Strategies and seeds on the same data. What is finished is kept: called again, an experiment goes
# on from where it was.

# %%
file = folder / "compare.toml"
file.write_text(
    f"""
    strategies = ["tfl", "unplanned"]
    seeds = 1
    directory = '{folder}'
    base.fleet.devices = 2
    base.rounds.count = 1
    base.deployment.export = false
    """
)
result = fimi.run_experiment(file, say=print)
for summary in result.summaries:
    print(summary.label, [f"{accuracy:.0%}" for accuracy in summary.final.values])
