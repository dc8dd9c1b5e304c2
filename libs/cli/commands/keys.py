"""`perpetua keys`: who may do what at a broker of yours."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from libs.cli import options, output
from libs.supervisor.data_dir import DataDir
from libs.supervisor.handing import hand_out
from libs.supervisor.keys import make_keys


@click.command()
@click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where they are kept.  [default: `keys` in the data folder]",
)
@click.option(
    "--public-events", is_flag=True, help="Let anybody without a key read public events, and nothing else."
)
@click.option(
    "--certificates",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Make certificates for TLS there, too, by an authority of their own: `ca.crt`.",
)
@click.option(
    "--names", metavar="NAMES", default="", help="Host names and addresses, by comma, that they are for."
)
@click.option(
    "--each",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Copy to each process what is its own, into a folder of its name there: for containers.",
)
@options.data_dir
@options.as_json
def keys(
    out: Path | None,
    public_events: bool,
    certificates: Path | None,
    names: str,
    each: Path | None,
    data_dir: DataDir,
    as_json: bool,
) -> None:
    """Make a key for each service, and the broker's configuration.

    What is there is kept, so it is safe to repeat; certificates are renewed when 90 days are left. A seed is
    secret: give each service its own, and none to the broker.
    """
    folder = (out or data_dir.keys).expanduser().absolute()
    found = make_keys(folder, public_events=public_events)
    if certificates is not None:
        from libs.supervisor.certificates import make_certificates  # loads OpenSSL: where it is asked for

        found += make_certificates(certificates.expanduser(), tuple(filter(None, names.split(","))))
    if each is not None:
        found += hand_out(each.expanduser(), folder, certificates and certificates.expanduser())
    if as_json:
        return output.print_json({"folder": str(folder), "files": [msgspec.to_builtins(f) for f in found]})
    rows = [(f.file, f.status, f.public or "") for f in found]
    output.print_table(("file", "", "public key"), rows, "")
    return click.echo(f"\nin {folder}: users.conf is for the broker, PERPETUA_NATS_NKEY_FILE names the rest")


COMMANDS = (keys,)
