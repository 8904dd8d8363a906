"""Typed settings, read from the environment.

What belongs here: every setting a deployment may change, with its meaning and default. What does
not: anything about the domain (that is declared in dbt) and anything that reads or writes data.
"""

from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_DIR = Path(__file__).resolve().parent.parent

Environment = Literal["local", "staging", "production"]
ClockMode = Literal["wall", "replay"]


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class Settings(BaseSettings):
    """All settings of the platform; each is the environment variable ``GROUNDWORK_<NAME>``.

    Raises:
        pydantic.ValidationError: A variable has a value of the wrong type, or names an unknown
            environment or clock mode.
    """

    # An error about one setting would show the values of all, secrets too.
    model_config = SettingsConfigDict(
        env_prefix="GROUNDWORK_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    environment: Environment = Field(
        "local", description="Decides which schedules and sensors start switched on."
    )

    sensor_interval_seconds: Annotated[int, Field(gt=0)] | None = Field(
        None, description="How often each sensor looks; unset: every 30 or 60 seconds, as each declares."
    )

    data_dir: AbsolutePath = Field(
        PROJECT_DIR / "data", description="Folder of everything the platform writes locally."
    )
    dbt_project_dir: AbsolutePath = Field(
        PROJECT_DIR / "dbt_project", description="The dbt project: the domain in SQL and YAML."
    )
    soda_checks_dir: AbsolutePath = Field(
        PROJECT_DIR / "soda_checks", description="Soda contracts, one folder a layer."
    )

    lake_catalog_postgres: SecretStr | None = Field(
        None,
        description="libpq connection string of a PostgreSQL lakehouse catalog; "
        "unset: an embedded SQLite catalog under data_dir.",
    )
    lake_data_path: str | None = Field(
        None, description="Folder or s3:// prefix of the lakehouse's Parquet files."
    )
    lake_lock_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        60.0, description="How long a writer waits for another one before it gives up."
    )
    dagster_postgres_url: SecretStr | None = Field(
        None,
        description="postgresql:// address for Dagster's own storage; unset: SQLite under data_dir.",
    )

    s3_endpoint: str | None = Field(None, description="host:port of an S3-compatible store.")
    s3_region: str = Field("us-east-1", description="S3 region.")
    s3_url_style: Literal["vhost", "path"] = Field("vhost", description="How buckets are addressed.")
    s3_use_ssl: bool = Field(True, description="False only for a local test store.")
    s3_access_key_id: SecretStr | None = Field(None, description="S3 key id.")
    s3_secret_access_key: SecretStr | None = Field(None, description="S3 secret.")

    duckdb_threads: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Threads of one DuckDB instance; unset: one a core."
    )
    duckdb_memory_limit: str = Field(
        "2GB", description="Memory of one DuckDB instance before it spills to data_dir/tmp."
    )

    online_store_redis_url: SecretStr | None = Field(
        None,
        description="redis:// or rediss:// address of the online store; unset: LMDB under data_dir.",
    )
    online_store_redis_prefix: str = Field(
        "groundwork", description="What its keys begin with, so that several platforms can share a server."
    )

    late_days: Annotated[int, Field(ge=0)] = Field(
        3,
        description="Days before the last that the daily schedule lands again, for late rows of sources "
        "that no landing sensor watches; 0: none.",
    )

    clock: ClockMode | None = Field(None, description="wall or replay; unset: what dbt_project.yml declares.")
    replay_at: AwareDatetime | None = Field(
        None, description="The instant the replay clock stands at (ISO 8601 with offset)."
    )

    notify_webhook_url: SecretStr | None = Field(None, description="Failure messages go here, as JSON.")
    notify_smtp_host: str | None = Field(None, description="Mail server for failure messages.")
    notify_smtp_port: Annotated[int, Field(gt=0, lt=65536)] = Field(25, description="Its port.")
    notify_smtp_starttls: bool = Field(False, description="Encrypts, and checks the server's certificate.")
    notify_smtp_user: str | None = Field(None, description="Logs in there; needs notify_smtp_starttls.")
    notify_smtp_password: SecretStr | None = Field(None, description="Password of that user.")
    notify_smtp_from: str = Field("groundwork@localhost", description="Sender of failure messages.")
    notify_after_failures: Annotated[int, Field(gt=0)] = Field(
        1, description="Consecutive failures of an asset before its owner is told."
    )

    server_host: str = Field(
        "127.0.0.1", description="Address the feature server listens on; any but loopback needs keys."
    )
    server_port: Annotated[int, Field(ge=0, lt=65536)] = Field(
        6567, description="Its port; 0: a free one. Browsers refuse 6566, which Feast serves on."
    )
    server_workers: Annotated[int, Field(gt=0)] = Field(1, description="Its processes.")
    server_keys_file: AbsolutePath | None = Field(
        None, description="YAML file of its API keys and roles; unset: whoever reaches it may do all."
    )
    server_requests_per_second: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Requests it takes of one caller in a second; unset: any number."
    )
    server_max_body_bytes: Annotated[int, Field(gt=0)] = Field(
        1_048_576, description="Size of the largest request it reads."
    )
    server_max_rows: Annotated[int, Field(gt=0)] = Field(
        1_000, description="Entity rows of one request, or rows of one push."
    )
    server_tls_certificate: AbsolutePath | None = Field(
        None, description="PEM file of its certificate chain; with server_tls_key it speaks TLS only."
    )
    server_tls_key: AbsolutePath | None = Field(None, description="PEM file of the certificate's key.")
    server_access_log: AbsolutePath | None = Field(
        None, description="File to which it appends a JSON line a request; unset: standard output."
    )
    server_shutdown_seconds: Annotated[int, Field(gt=0)] = Field(
        30, description="How long it lets requests finish once it is told to stop."
    )
    dagster_ui_url: str = Field(
        "http://127.0.0.1:3000", description="Where Dagster's UI is, for links to assets."
    )

    dataset_dir: AbsolutePath | None = Field(
        None, description="Folder of the dataset versions; unset: datasets under data_dir."
    )
    dataset_shard_rows: Annotated[int, Field(gt=0)] = Field(
        262_144, description="Rows of one Parquet file of a dataset version, at most."
    )
    dataset_row_group_rows: Annotated[int, Field(gt=0, multiple_of=2048)] = Field(
        16_384, description="Rows of its row groups: what a reader reads, and shares out, at a time."
    )

    snapshot_retention_days: Annotated[int, Field(gt=0)] = Field(
        30, description="How long old lakehouse snapshots stay readable."
    )

    @field_validator("duckdb_memory_limit")
    @classmethod
    def _has_a_unit(cls, value: str) -> str:
        if not value.strip()[:1].isdigit() or value.strip()[-1:].lower() not in {"b", "%"}:
            raise ValueError("expected a size with a unit, such as 2GB or 512MiB")
        return value

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.server_tls_certificate is None) != (self.server_tls_key is None):
            raise ValueError("server_tls_certificate and server_tls_key go together")
        return self

    @model_validator(mode="after")
    def _login_in_secret(self) -> Self:
        if (self.notify_smtp_user is None) != (self.notify_smtp_password is None):
            raise ValueError("notify_smtp_user and notify_smtp_password go together")
        if self.notify_smtp_user is not None and not self.notify_smtp_starttls:
            raise ValueError("notify_smtp_user needs notify_smtp_starttls: nobody may read its password")
        return self

    def under(self, folder: Path) -> Self:
        """The same settings with everything written locally under another folder, and nobody told of it.

        Not ``model_copy``: it would keep the places that have been looked up already.
        """
        return type(self)(
            **{
                **{name: getattr(self, name) for name in type(self).model_fields},
                "data_dir": folder,
                "environment": "local",
                "lake_catalog_postgres": None,
                "lake_data_path": None,
                "dagster_postgres_url": None,
                "online_store_redis_url": None,
                "dataset_dir": None,
            }
        )

    def sensor_interval(self, usual: int) -> int:
        """How often a sensor looks that usually does every so many seconds."""
        return self.sensor_interval_seconds or usual

    @cached_property
    def lake_dir(self) -> Path:
        """Folder of the embedded lakehouse."""
        return self.data_dir / "lake"

    @cached_property
    def online_dir(self) -> Path:
        """Folder of the embedded online store."""
        return self.data_dir / "online"

    @cached_property
    def models_dir(self) -> Path:
        """Folder of the models' artifacts."""
        return self.data_dir / "models"

    @cached_property
    def prediction_log_dir(self) -> Path:
        """Folder in which servers write predictions down until they are landed."""
        return self.data_dir / "predictions"

    @cached_property
    def datasets_dir(self) -> Path:
        """Folder of the dataset versions."""
        return self.dataset_dir or self.data_dir / "datasets"

    @cached_property
    def tmp_dir(self) -> Path:
        """Folder for spilled and intermediate files; safe to delete between runs."""
        return self.data_dir / "tmp"

    @cached_property
    def dagster_dir(self) -> Path:
        """Folder of Dagster's SQLite storage, logs and artifacts."""
        return self.data_dir / "dagster"


class Clock:
    """The platform's clock: the wall clock, or one that stands where a replay has got to."""

    def __init__(self, replay_at: datetime | None = None) -> None:
        self._replay_at = None if replay_at is None else replay_at.astimezone(UTC)

    @property
    def mode(self) -> ClockMode:
        """Which clock it is."""
        return "wall" if self._replay_at is None else "replay"

    def now(self) -> datetime:
        """The platform's present instant, in UTC."""
        return datetime.now(UTC) if self._replay_at is None else self._replay_at


class MovingClock(Clock):
    """A replay clock that is moved: definitions that hold it live at whatever instant it stands."""

    def move(self, instant: datetime) -> None:
        """Let it stand at an instant."""
        self._replay_at = instant.astimezone(UTC)


def make_clock(settings: Settings, declared: dict[str, Any] | None) -> Clock:
    """The clock that the settings ask for, or else the one that dbt_project.yml declares.

    Args:
        settings: The platform's settings.
        declared: ``vars.groundwork.clock`` of dbt_project.yml: ``{mode, replay_at}``.

    Raises:
        ValueError: The replay clock is asked for and no instant is given anywhere.
    """
    declared = declared or {}
    mode = settings.clock or declared.get("mode", "wall")
    if mode == "wall":
        return Clock()
    if mode != "replay":
        raise ValueError(
            f"dbt_project.yml: vars.groundwork.clock.mode: found {mode!r}, expected wall or replay"
        )
    at = settings.replay_at or declared.get("replay_at")
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise ValueError(
            "the replay clock needs an instant with an offset: set GROUNDWORK_REPLAY_AT or "
            f"vars.groundwork.clock.replay_at in dbt_project.yml (found {at!r})"
        )
    return Clock(at)
