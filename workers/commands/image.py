"""`sandbox image`: build and list the sandbox images of the profiles."""

from __future__ import annotations

import click
import docker.errors
from rich.console import Console
from rich.table import Table

from orchestrator import settings
from orchestrator.cli import CommandFailed
from workers.images import IMAGES, build
from workers.images.advice import how_to_get
from workers.images.agent_cli import AGENT_LABEL
from workers.sandbox.docker.connection import ENGINE_ERRORS, options


@click.group()
def image() -> None:
    """Build and list the sandbox images of the profiles."""


@image.command("build")
@click.argument("profile", default="agentic-dev", type=click.Choice(sorted(IMAGES)))
@click.option("--force", is_flag=True, help="Build again even when the image is up to date.")
@click.option("--network", help="Network of the build steps, e.g. host.")
def build_image(profile: str, *, force: bool, network: str | None) -> None:
    """Build the image of PROFILE (agentic-dev), and what it stands on.

    Where no image registry is reachable the base is made from the distribution's packages. The agent's command line
    in agentic-dev is fetched from a package registry with this host's pip, or npm, and kept in ~/.cache/sandbox/cli.
    """
    image_id = build(profile, engine=_engine(), echo=click.echo, force=force, network=network)
    click.echo(f"{IMAGES[profile].tag} is ready ({image_id[:19]})")


@image.command("list")
def list_images() -> None:
    """List the images of all profiles, whether they are on this host, and the agent's command line in them."""
    engine, table = _engine(), Table("PROFILE", "IMAGE", "ID", "SIZE", "CLAUDE", box=None)
    for profile in settings.load().profiles.values():
        try:
            found = engine.images.get(profile.image)
            size = f"{found.attrs['Size'] / 1e6:.0f} MB"
            table.add_row(profile.name, profile.image, str(found.id)[7:19], size, found.labels.get(AGENT_LABEL, "–"))
        except docker.errors.ImageNotFound:
            table.add_row(profile.name, profile.image, "missing", how_to_get(profile.image))
    Console().print(table)


def _engine() -> docker.DockerClient:
    try:
        return docker.DockerClient(**options())
    except ENGINE_ERRORS as error:
        raise CommandFailed(f"the Docker Engine does not answer: {error}; start it, or set DOCKER_HOST") from error
