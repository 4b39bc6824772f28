"""A plant's month, compressed: three shifts, a partner who reads on markers, a full disk, an outage of three weeks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from tests.plant.plant import plant

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plant.plant import Plant
    from tests.servers import Server

PICTURE = 100_000  # bytes
KEPT_FREE = 1_500_000  # bytes
WEEKS_AWAY = 3


def rules_of(folder: str) -> list[dict[str, Any]]:
    """Return the rules of the plant's desired document."""

    def rule(name: str, direction: str, source: str, dest: str, **keys: Any) -> dict[str, Any]:
        return {"name": name, "direction": direction, "source": source, "dest": dest, "min_age": 0, "every": 1} | keys

    return [
        rule("pictures", "upload", "camera", f"{folder}/pictures", include=["*.jpg"], order="newest"),
        rule(
            "shipments",
            "upload",
            "shipments",
            f"{folder}/shipments",
            marker={"checksum": "{name}.sha256", "write": "{name}.done"},
            then={"move": "sent"},
            on_failure={"after": 2, "move": "failed"},
        ),
        rule("orders", "download", f"{folder}/orders", "orders", marker={"wait": "{name}.ready"}, then="delete"),
        rule("log", "upload", "logs", f"{folder}/logs", mode="append", lines=True),
        rule("archive", "upload", "archive", f"{folder}/archive", between=["22:00", "06:00"], then="delete"),
    ]


RETENTION = [{"path": "camera", "minFree": KEPT_FREE}]


def picture(number: int) -> bytes:
    return os.urandom(1) + str(number).encode().ljust(PICTURE - 1, b".")


class Month:
    """The chapters of the story, and what was written in it."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.pictures: dict[str, bytes] = {}
        self.shipments: list[bytes] = []
        self.log = b""

    def take_picture(self) -> None:
        name = f"{len(self.pictures):04}.jpg"
        self.pictures[name] = picture(len(self.pictures))
        self.plant.write(f"camera/{name}", self.pictures[name])

    def ship(self) -> None:
        content = f"shipment {len(self.shipments)}".encode()
        self.shipments.append(content)
        self.plant.write(f"shipments/{len(self.shipments)}.csv", content)

    def say(self, line: str) -> None:
        self.log += f"{line}\n".encode()
        self.plant.append("logs/press.log", f"{line}\n".encode())

    def everything_has_arrived(self) -> bool:
        return (
            self.plant.there("pictures") >= set(self.pictures)
            and sum(self.plant.partner.taken.values()) == len(self.shipments)
            and self.plant.here("shipments") == set()
            and (self.plant.remote / "logs" / "press.log").read_bytes() == self.log
        )

    # --- the chapters

    def early_shift(self) -> None:
        """Everything that is written arrives; an order is taken when its marker says that it is complete."""
        plant = self.plant
        plant.clock.set("06:00")
        for number in range(10):
            plant.clock.set(f"07:{number:02}")
            self.take_picture()
            self.ship()
            self.say(f"part {number} pressed")
        plant.append("logs/press.log", b"part 10 is half")  # a line that is being written
        (plant.remote / "orders" / "early.csv").write_bytes(b"not all of it")
        plant.until(self.everything_has_arrived, "what the early shift wrote is there")
        assert plant.here("orders") == set()
        plant.partner.order("early.csv", b"12 pieces")
        plant.until(lambda: plant.there("orders") == set(), "the order was fetched, and it and its marker deleted")
        assert (plant.root / "orders" / "early.csv").read_bytes() == b"12 pieces"
        self.log += b"part 10 is half pressed\n"
        plant.append("logs/press.log", b" pressed\n")

    def late_shift(self) -> None:
        """A file that the partner cannot take is put aside, and keeps nobody from arriving; the archive waits."""
        plant = self.plant
        plant.clock.set("14:00")
        (plant.remote / "shipments" / "bad.csv").mkdir()  # somebody's mistake on the server
        plant.write("shipments/bad.csv", b"cannot arrive")
        plant.write("archive/day.tar", bytes(1000))
        self.ship()
        plant.until(
            lambda: plant.here("failed") == {"bad.csv"} if (plant.root / "failed").exists() else False, "quarantine"
        )
        (plant.remote / "shipments" / "bad.csv").rmdir()
        plant.until(self.everything_has_arrived, "what the late shift wrote is there")
        assert plant.device.reported()["quarantined", "shipments/bad.csv"] == 1
        assert plant.here("archive") == {"day.tar"}
        assert plant.there("archive") == set()

    def night_shift(self) -> None:
        """The archive goes when its window opens."""
        plant = self.plant
        plant.clock.set("22:00")
        plant.until(lambda: plant.there("archive") == {"day.tar"} and not plant.here("archive"), "the archive arrives")

    def weeks_away(self) -> None:
        """The link is down: what was delivered makes room, and what was not stays, also over a restart."""
        plant = self.plant
        plant.link.go_down()
        for day in range(7 * WEEKS_AWAY):
            plant.clock.set("12:00", days=1)
            self.take_picture()
            self.ship()
            self.say(f"day {day} without the partner")
            if day % 7 == 3:
                plant.restart()
        undelivered = sorted(self.pictures)[-7 * WEEKS_AWAY :]
        plant.until(lambda: self.free() >= KEPT_FREE, "delivered pictures make room")
        assert plant.here("camera") >= set(undelivered)
        assert {name for name in self.pictures if name not in plant.here("camera")}  # some had to go
        assert not plant.there("pictures") & set(undelivered)

    def back_again(self) -> None:
        """Everything arrives that has waited, each once."""
        self.plant.link.come_back()
        self.plant.until(self.everything_has_arrived, "what has waited for three weeks is there")

    def full_disk(self) -> None:
        """An order for which there is no room arrives, since pictures that were delivered make room for it."""
        order = os.urandom(self.free() + 3 * PICTURE)
        self.plant.partner.order("large.csv", order)
        self.plant.until(lambda: self.plant.there("orders") == set(), "the order was fetched")
        assert (self.plant.root / "orders" / "large.csv").read_bytes() == order

    def free(self) -> int:
        status = os.statvfs(self.plant.root)
        return status.f_bavail * status.f_frsize


def test_nothing_of_a_month_is_lost_or_delivered_twice(openssh_server: Server, tmp_path: Path) -> None:
    with plant(tmp_path, openssh_server, size="4m") as running:
        if not os.path.ismount(running.root):
            pytest.skip("only root mounts a small disk, and not everywhere")
        running.configure(rules_of(running.remote.name), RETENTION)
        month = Month(running)
        month.early_shift()
        month.late_shift()
        month.night_shift()
        month.weeks_away()
        month.back_again()
        month.full_disk()

        arrived = {name: (running.remote / "pictures" / name).read_bytes() for name in running.there("pictures")}
        assert arrived == month.pictures
        assert sorted(running.partner.taken.elements()) == sorted(month.shipments)  # whole, and each once
        delivered = {
            source: count for (what, source), count in running.device.reported().items() if what == "delivered"
        }
        assert {delivered[f"camera/{name}"] for name in month.pictures} == {1}
