"""``--broker``, ``--bundle`` and ``--insecure`` of every command that reaches a broker."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fimi.messaging.bundle import Bundle
from fimi.testbed.cli import main
from fimi.testbed.commands.reaching import (
    BROKER,
    BROKER_OF_STUDY,
    as_typed,
    is_named,
    use_environment,
)
from fimi.testbed.experiment.where import Where
from fimi.testbed.run_folder import resuming_command

# On Linux this machine answers at 0.0.0.0, and nothing shows that it is this machine.
AWAY = "0.0.0.0"
REACHING = (
    ["agent", "run", "--id", "a"],
    ["generator", "run"],
    ["coordinator", "run"],
    ["fleet", "status"],
    ["fleet", "logs", "a"],
    ["meter", "publish", "--meter", "psu"],
    ["agent", "doctor"],
)


def said(*arguments: str, **environment: str) -> Result:
    unset = dict.fromkeys(("FIMI_BROKER", "FIMI_BUNDLE", "FIMI_INSECURE"))
    given = [*arguments, *(["--no-wait"] if arguments[:2] == ("agent", "run") else [])]
    return CliRunner().invoke(main, given, env={**unset, **environment})


@pytest.fixture
def bundle(tmp_path: Path, free_port: int) -> Path:
    made = Bundle(
        fleet="lab", name="pi-01", role="device", host="127.0.0.1", port=free_port, password="p"
    )
    made.write(tmp_path / "pi-01.bundle")
    return tmp_path / "pi-01.bundle"


class TestInsecure:
    @pytest.mark.parametrize("command", REACHING, ids=" ".join)
    @pytest.mark.parametrize(
        ("scheme", "login", "why"),
        [("mqtt", "u:secret@", "without TLS"), ("mqtts", "", "without a password")],
    )
    def test_a_broker_elsewhere_is_refused(
        self, command: list[str], scheme: str, login: str, why: str, free_port: int
    ) -> None:
        done = said(*command, "--broker", f"{scheme}://{login}{AWAY}:{free_port}")
        assert done.exit_code == 2, done.output
        assert why in done.output.replace("\n", " ")
        assert "--insecure" in done.output
        assert "secret" not in done.output

    @pytest.mark.parametrize("given", [("--insecure",), ()])
    def test_who_says_so_goes_on(self, given: tuple[str, ...], free_port: int) -> None:
        url = f"mqtt://u:p@{AWAY}:{free_port}"
        environment = {} if given else {"FIMI_INSECURE": "1"}
        done = said("fleet", "status", "--broker", url, *given, **environment)
        assert done.exit_code == 3, "nobody listens there"
        assert "cannot be reached" in done.output.replace("\n", " ")

    def test_this_machine_needs_neither(self, free_port: int) -> None:
        done = said("fleet", "status", "--broker", f"mqtt://localhost:{free_port}")
        assert done.exit_code == 3

    @pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1"])
    def test_an_open_broker(self, bind: str) -> None:
        done = said("broker", "--bind", bind, "--port", "0")
        assert done.exit_code == 2
        assert "fimi fleet init" in done.output.replace("\n", " ")


class TestBundle:
    def test_it_is_enough(self, bundle: Path) -> None:
        """Fleet, id and broker come from it."""
        done = said("agent", "run", "--bundle", str(bundle))
        assert done.exit_code == 3
        assert "mqtt://pi-01:***@127.0.0.1" in done.output.replace("\n", "")

    def test_by_environment(self, bundle: Path) -> None:
        done = said("agent", "run", FIMI_BUNDLE=str(bundle))
        assert "mqtt://pi-01:***@127.0.0.1" in done.output.replace("\n", "")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["agent", "run", "--id", "pi-02"], "no other id"),
            (["agent", "run", "--fleet", "other"], "for fleet 'lab'"),
            (["generator", "run"], "that of device 'pi-01'"),
            (["coordinator", "run"], "that of device 'pi-01'"),
            (["fleet", "status"], "that of device 'pi-01'"),
        ],
    )
    def test_what_does_not_go_with_it(self, bundle: Path, arguments: list[str], says: str) -> None:
        done = said(*arguments, "--bundle", str(bundle))
        assert done.exit_code == 2, done.output
        assert says in done.output.replace("\n", " ")

    def test_two_brokers(self, bundle: Path) -> None:
        done = said("agent", "run", "--bundle", str(bundle), "--broker", "mqtt://127.0.0.1:1")
        assert done.exit_code == 2
        assert "leave one out" in done.output
        done = said("agent", "run", FIMI_BUNDLE=str(bundle), FIMI_BROKER="mqtt://127.0.0.1:1")
        assert done.exit_code == 2

    def test_the_command_line_beats_the_environment(self, bundle: Path) -> None:
        done = said("agent", "run", "--bundle", str(bundle), FIMI_BROKER="mqtt://other@127.0.0.1:1")
        assert "pi-01:***@" in done.output
        url = "mqtt://other@127.0.0.1:1"
        done = said("agent", "run", "--broker", url, FIMI_BUNDLE=str(bundle))
        assert "other@127.0.0.1" in done.output.replace("\n", "")

    def test_the_environment_beats_a_file_of_options(self, bundle: Path) -> None:
        file = bundle.with_name("agent.toml")
        file.write_text(f'bundle = "{bundle}"\n')
        run = ("agent", "run", "--no-wait", "--config", str(file))
        done = said(*run, FIMI_BROKER="mqtt://u:p@127.0.0.1:1")
        assert "mqtt://u:***@127.0.0.1:1: cannot be reached" in done.output.replace("\n", " ")
        file.write_text(f'bundle = "{bundle}"\nbroker = "mqtt://u:p@127.0.0.1:1"\n')
        assert "leave one out" in said(*run).output.replace("\n", " ")

    def test_an_unusable_one(self, bundle: Path) -> None:
        bundle.chmod(0o644)
        done = said("agent", "run", "--bundle", str(bundle))
        assert done.exit_code == 2
        assert "chmod 600" in done.output.replace("\n", " ")


class TestTypedAgain:
    """What a command that was stopped prints is what its user would type."""

    @staticmethod
    def again(*words: str, live: bool = False, **environment: str) -> str:
        @click.command()
        @(BROKER_OF_STUDY if live else BROKER)
        def command(url: str) -> None:
            if live and not is_named(url):
                url = use_environment()
            click.echo(f"[{as_typed(url)}]")

        unset = dict.fromkeys(("FIMI_BROKER", "FIMI_BUNDLE", "FIMI_INSECURE"))
        done = CliRunner().invoke(command, words, env={**unset, **environment})
        assert done.exit_code == 0, done.output
        return done.output.strip()[1:-1]

    @pytest.mark.parametrize("live", [False, True])
    def test_what_the_command_line_says_is_said_again(self, live: bool) -> None:
        url = "mqtt://u:secret@10.0.0.2:1884"
        assert self.again("--bundle", "a b.bundle", live=live) == " --bundle 'a b.bundle'"
        assert self.again("--broker", "mqtt://h", "--insecure", live=live) == (
            " --broker 'mqtt://h:1883' --insecure"
        )
        assert self.again("--broker", url, live=live, FIMI_INSECURE="1") == (
            " --broker 'mqtt://u:***@10.0.0.2:1884'"
        )
        # The command line goes before the environment.
        assert self.again("--bundle", "x.bundle", live=live, FIMI_BROKER=url) == (
            " --bundle x.bundle"
        )

    @pytest.mark.parametrize("live", [False, True])
    def test_what_the_environment_says_is_left_to_it(self, live: bool) -> None:
        assert self.again(live=live, FIMI_BUNDLE="x.bundle", FIMI_INSECURE="1") == ""
        assert self.again(live=live, FIMI_BROKER="mqtt://u:secret@10.0.0.2") == ""

    @pytest.mark.parametrize(
        ("where", "reached", "words"),
        [
            (Where(), "", ""),
            (Where(jobs=3, on="ray:h"), "", " --on ray:h --jobs 3"),
            (Where(live=True, generator=True), "", " --live --generator"),
            (Where(live=True), " --bundle x", " --bundle x"),
        ],
    )
    def test_a_study(self, where: Where, reached: str, words: str) -> None:
        assert where.options(reached) == words

    def test_a_run(self) -> None:
        assert resuming_command("dry-run", Path("runs/a")) == "fimi dry-run --resume a"
        assert resuming_command("coordinator run", Path("of mine/a"), " --bundle x") == (
            "fimi coordinator run --resume 'of mine/a' --bundle x"
        )
