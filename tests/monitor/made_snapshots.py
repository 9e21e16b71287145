"""Snapshots of fleets of any size, as a dashboard sends them."""

from __future__ import annotations

from fimi.energy.joules import Energy
from fimi.monitor.snapshot import DeviceNow, JoulesNow, RoundNow, RunNow, Said, Snapshot

BEGAN = 1_760_000_000.0


def joules(value_j: float, predicted_j: float | None = None, kind: str = "emulated") -> JoulesNow:
    energy = Energy(value_j=value_j, kind=kind, source="meter", scope="board")
    if predicted_j is None:
        return JoulesNow(energy=energy)
    error = 100 * (predicted_j - value_j) / value_j
    return JoulesNow(energy=energy, compared=energy, predicted_j=predicted_j, error_percent=error)


def a_device(number: int) -> DeviceNow:
    """Every seventh has gone, every eleventh has failed; watts go up and down."""
    watts = 1.0 + (number * 37 % 101) / 10
    gone, failed = number % 7 == 0, number % 11 == 0
    fields = {} if gone else {"power_w": watts, "power_kind": "emulated", "power_scope": "board"}
    return DeviceNow(
        board=("raspberry-pi-4", "jetson-nano", "mini-pc")[number % 3],
        kind="emulated",
        samples=60 + number,
        synthetic=number * 3 % 40,
        state="gone" if gone else "failed" if failed else "training",
        problem="went offline" if gone else "the plan cannot be followed" if failed else "",
        online=not gone,
        stage=None if gone else "training",
        phase=None if gone else "compute",
        set_hz=1.5e9,
        applied_hz=1.4e9,
        clock_hz=1.39e9,
        set_bps=8e6,
        sent_bps=7.4e6,
        meter="" if gone else "emulated meter",
        temperature_c=None if gone else 40 + number % 20,
        round=6,
        round_energy=joules(10.0 + number, 10.5 + number),
        total=joules(60.0 + number, 61.0),
        accuracy=0.9,
        seen_unix_s=BEGAN + 99.0 - (60 if gone else number % 3),
        **fields,
    )


def fleet(count: int) -> Snapshot:
    """A run with so many devices, in its seventh round."""
    devices = {f"device-{n:03d}": a_device(n) for n in range(1, count + 1)}
    a_round = RoundNow(
        accuracy=0.9,
        validation_accuracy=None,
        loss=0.3,
        duration_s=12.0,
        elapsed_s=70.0,
        accepted=count,
        participants=count,
        energy=joules(30.0),
        so_far=joules(165.0),
    )
    return Snapshot(
        unix_s=BEGAN + 100.0,
        run=RunNow(
            name="fimi-seed1-20261130",
            title="FIMI dry run, emulated devices",
            strategy="FIMI",
            dataset="digits",
            model="cnn",
            seed=1,
            kind="emulated",
            state="training",
            doing="round 7",
            broker="mosquitto 2.0.11",
            began_unix_s=BEGAN,
            round=7,
            rounds=30,
            left_s=312.0,
            deadline_s=20.0,
            plan="plan: 3 local epochs, 412 synthetic samples, rounds of 12.0 s: 31.0 J",
            accuracy=0.912,
            target=0.95,
            energy=joules(165.0, 176.0),
        ),
        devices=devices,
        rounds={str(n): a_round for n in range(1, 7)},
        said={
            str(n): Said(
                unix_s=BEGAN + n,
                text=f"device-007: round {n}: it took longer than its deadline and is late",
                problem=n % 3 == 0,
                device="device-007",
            )
            for n in range(1, 30)
        },
    )
