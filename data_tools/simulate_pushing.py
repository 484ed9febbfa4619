"""Simulate a robot arm that pushes coloured things about in a tray: a video data set that anyone can make again.

    pip install .[simulate]
    python data_tools/simulate_pushing.py --clips 1000 --image_size 64 --seed 0 --out_dir pushing

Every clip has its own things (shapes, colours, patterns), table, light and camera, and 30 frames at 10 a second. The
arm aims every push at a thing, and things get hidden behind the arm or one another and are seen again. PyBullet
simulates and draws (TinyRenderer, no GPU); clip ``index`` of a split depends on (split, seed, index) and nothing else.
With N training clips come N / 20 to validate and as many to test. A process makes about 40 frames a second.
"""

from __future__ import annotations

import colorsys
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lgcvd.convert import Video, add_options, convert, main, new_parser
from lgcvd.digits import Split
from lgcvd.errors import UserError
from lgcvd.shards import Recording

FRAMES, FPS = 30, 10
STEPS = 24
"""Steps of physics a frame, each of 1 / 240 s."""
OVERSAMPLING = 3
"""Pixels drawn for every one kept, along either side."""

WIDE, DEEP, RIM = 0.58, 0.48, 0.02
"""Inside of the tray along x (to the right) and y (away from the camera), and its rim's height, in metres. Its centre
is the origin; z is up."""
SHOULDER = np.array([0.0, 0.36, 0.26])
UPPER_ARM, FOREARM, TOOL = 0.34, 0.40, 0.18
"""Lengths in metres: shoulder to elbow, elbow to wrist, wrist to finger tips."""
FINGER = 0.05
"""Half of the fingers' length, in metres."""
LOW, HIGH = 0.012, 0.14
"""Heights of the finger tips when they push and when they travel, in metres."""

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Clip:
    """One simulated clip: T = 30 frames, 10 a second. Lengths are in metres, angles in radians.

    The origin is the centre of the tray; x points right, y away from the camera, z up.
    """

    frames: np.ndarray
    """(T, H, W, 3) uint8, RGB."""
    actions: np.ndarray
    """(T, 8) float32. Columns 0 to 3: how far the gripper is told to go from this frame to the next along x, y and z,
    and to turn about z. Columns 4 to 7: where its finger tips are in this frame, and its angle about z."""
    places: np.ndarray
    """(T, things, 3) float32: the things' centres."""
    visible: np.ndarray
    """(T, things) float32: the area that is to be seen of each thing, in pixels of the frame."""

    def moved(self) -> np.ndarray:
        """(things,): how far each thing gets, at the most, from where it is in the first frame."""
        return np.linalg.norm(self.places - self.places[0], axis=-1).max(0)

    def came_back(self) -> np.ndarray:
        """(things,) bool: hidden at some time (under a tenth of its largest area), and seen before and after."""
        share = self.visible / self.visible.max(0).clip(1)
        before, after = np.maximum.accumulate(share), np.maximum.accumulate(share[::-1])[::-1]
        return ((share < 0.1) & (before > 0.4) & (after > 0.4)).any(0)


def simulate(split: Split, seed: int, index: int, image_size: int = 64) -> Clip:
    """Clip ``index`` of a split: the same bytes every time, and no clip in two splits.

    Other versions of PyBullet or NumPy, or a processor without FMA, may round otherwise and give other clips.
    """
    rng = np.random.default_rng([{"train": 0, "validation": 1, "test": 2}[split], seed, index])
    bullet = World()
    try:
        with tempfile.TemporaryDirectory() as textures:
            scene = Scene(bullet, rng, Path(textures))
        frames, actions, places, visible = [], [], [], []
        command, commands = scene.command, scene.commands()
        for _ in range(FRAMES):
            frame, area = scene.draw(image_size)
            frames.append(frame)
            visible.append(area)
            places.append(scene.places())
            here, before = scene.gripper_place(), command
            for _ in range(STEPS):
                command = next(commands)
                scene.step(command)
            actions.append(np.concatenate([command - before, here]))
        return Clip(np.stack(frames), *(np.stack(x).astype(np.float32) for x in (actions, places, visible)))
    finally:
        bullet.disconnect()


class World:
    """A physics world of its own: the functions and constants of PyBullet, for one client."""

    def __init__(self) -> None:
        try:
            import pybullet
        except ImportError:
            raise UserError("Simulating needs PyBullet: pip install .[simulate]") from None
        self._pybullet, self._client = pybullet, pybullet.connect(pybullet.DIRECT)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._pybullet, name)
        return partial(value, physicsClientId=self._client) if callable(value) else value


@dataclass(frozen=True)
class Part:
    """A piece of a body. ``size`` is a box's half extents, a ball's radius, or a cylinder's radius and height."""

    kind: str
    size: Sequence[float]
    place: Sequence[float] = (0, 0, 0)
    colour: Colour = (1, 1, 1)


class Scene:
    """A tray with things in it, and an arm. A command is x, y, z of the finger tips and the gripper's angle about z."""

    def __init__(self, bullet: World, rng: np.random.Generator, textures: Path) -> None:
        self.bullet, self.rng, self.textures = bullet, rng, textures
        bullet.setGravity(0, 0, -9.81)
        bullet.setPhysicsEngineParameter(fixedTimeStep=1 / (FPS * STEPS), deterministicOverlappingPairs=1)
        self._set_tray()
        self._set_things()
        self._set_camera_and_light()
        self._set_arm()

    # What is there

    def _set_tray(self) -> None:
        hue, value = self.rng.uniform(0.07, 0.11), self.rng.uniform(0.6, 0.88)
        kind = self.rng.choice(["wood", "felt", "tiles"], p=[0.6, 0.2, 0.2])
        if kind == "wood":
            top = _wood(self.rng, _rgb(hue, self.rng.uniform(0.3, 0.5), value))
        elif kind == "felt":
            top = _felt(self.rng, _rgb(self.rng.uniform(), self.rng.uniform(0.1, 0.25), value))
        else:
            top = _tiles(self.rng, _rgb(self.rng.uniform(), self.rng.uniform(0.05, 0.15), value))
        floor = self._body(0, [Part("box", (WIDE / 2, DEEP / 2, 0.02))], (0, 0, -0.02))
        self._texture(floor, top)
        rim, edge = _rgb(hue, 0.45, value * 0.65), 0.012
        sides = [Part("box", (edge, DEEP / 2 + 2 * edge, RIM), (s * (WIDE / 2 + edge), 0, 0), rim) for s in (-1, 1)]
        sides += [Part("box", (WIDE / 2, edge, RIM), (0, s * (DEEP / 2 + edge), 0), rim) for s in (-1, 1)]
        for side in sides:
            self._body(0, [side], (0, 0, 0))
        # What is not to be seen: walls that nothing jumps over.
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            wall = self.bullet.createCollisionShape(self.bullet.GEOM_PLANE, planeNormal=[x, y, 0])
            self.bullet.createMultiBody(0, wall, -1, [-x * WIDE / 2, -y * DEEP / 2, 0])
        colour = _rgb(self.rng.uniform(), self.rng.uniform(0.03, 0.12), self.rng.uniform(0.6, 0.9))
        table = self._body(0, [Part("box", (0.9, 0.9, 0.02))], (0, 0.2, -0.06), solid=False)
        self._texture(table, _felt(self.rng, colour))

    def _set_things(self) -> None:
        count = int(self.rng.integers(4, 7))
        hues = (self.rng.uniform() + np.arange(count) / count + self.rng.normal(0, 0.02, count)) % 1
        self.things: list[int] = []
        self.reach: list[float] = []
        """Half of each thing's largest width."""
        self.aims: list[int] = []
        """Which things may be pushed."""
        taken: list[tuple[np.ndarray, float]] = []
        for i, hue in enumerate(self.rng.permutation(hues)):
            screen = i == 0 and self.rng.uniform() < 0.6
            colour = _rgb(hue, self.rng.uniform(0.75, 1), self.rng.uniform(0.75, 1))
            kind = "screen" if screen else str(self.rng.choice(KINDS))
            parts, reach, height = _thing(self.rng, kind, colour)
            inside = np.array([WIDE, DEEP]) / 2 - reach - 0.02
            for _ in range(100):
                place = self.rng.uniform(-inside, inside)
                if screen:  # in front, so that there is room to hide behind
                    place[1] = -abs(place[1]) * 0.6
                if all(np.hypot(*(place - other)) > reach + width + 0.015 for other, width in taken):
                    break
            else:
                continue
            taken.append((place, reach))
            angle = self.rng.normal(0, 0.25) if screen else self.rng.uniform(0, 2 * math.pi)
            turn = self.bullet.getQuaternionFromEuler([0, 0, angle])
            body = self._body(1.0 if screen else 0.15, parts, (*place, height / 2 + 0.001), turn)
            if len(parts) == 1 and self.rng.uniform() < 0.6:
                self._texture(body, _pattern(self.rng, colour))
            self.bullet.changeDynamics(
                body,
                -1,
                lateralFriction=0.6,
                rollingFriction=0.0006,
                spinningFriction=0.002,
                restitution=0.3,
                linearDamping=0.1,
                angularDamping=0.1,
            )
            if not screen:
                self.aims.append(len(self.things))
            self.things.append(body)
            self.reach.append(reach)
        for _ in range(60):
            self.bullet.stepSimulation()

    def _set_camera_and_light(self) -> None:
        rng = self.rng
        up, aside = math.radians(rng.normal(51, 1.0)), rng.normal(0, 0.03)
        way = np.array([math.cos(up) * math.sin(aside), -math.cos(up) * math.cos(aside), math.sin(up)])
        target = np.array([0, 0.07, 0.03]) + rng.normal(0, 0.005, 3)
        self.camera = View(self.bullet, target + 1.3 * way, target, 31, 0.6, 2.5)
        lamp = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.1), 1.0])
        self.lamp = View(self.bullet, 3 * lamp / np.linalg.norm(lamp), np.array([0, 0.12, 0.05]), 22, 2.0, 4.0)
        ambient, warmth = rng.uniform(0.5, 0.6), rng.normal(0, 0.03)
        self.shading = {
            "lightDirection": lamp.tolist(),
            "lightColor": [1 + warmth, 1, 1 - warmth],
            "lightAmbientCoeff": ambient,
            "lightDiffuseCoeff": 1.05 - ambient,
            "lightSpecularCoeff": 0.08,
        }

    def _set_arm(self) -> None:
        shell, joint, dark = (0.82, 0.83, 0.86), (0.95, 0.4, 0.06), (0.2, 0.21, 0.24)
        post = [
            Part("cylinder", (0.06, SHOULDER[2]), (0, 0, -SHOULDER[2] / 2), dark),
            Part("ball", (0.07,), (0, 0, 0), joint),
        ]
        hand = [
            Part("cylinder", (0.03, TOOL - 2 * FINGER), (0, 0, TOOL / 2), shell),
            Part("box", (0.05, 0.022, 0.016), (0, 0, FINGER), dark),
        ]
        self._body(0, post, SHOULDER, solid=False)
        self.upper = self._body(0, [Part("cylinder", (0.05, UPPER_ARM), colour=shell)], SHOULDER, solid=False)
        self.elbow = self._body(0, [Part("ball", (0.062,), colour=joint)], SHOULDER, solid=False)
        self.fore = self._body(0, [Part("cylinder", (0.044, FOREARM), colour=shell)], SHOULDER, solid=False)
        self.wrist = self._body(0, [Part("ball", (0.052,), colour=joint)], SHOULDER, solid=False)
        self.hand = self._body(0, hand, SHOULDER, solid=False)

        self.push = self._aim(0.0)
        self.command = self.push[0]
        fingers = [Part("box", (0.012, 0.015, FINGER), (side * 0.03, 0, 0), dark) for side in (-1, 1)]
        place, turn = self._hold(self.command)
        self.gripper = self._body(2, fingers, place, turn)
        fixed = self.bullet.JOINT_FIXED
        self.grip = self.bullet.createConstraint(
            self.gripper, -1, -1, -1, fixed, [0, 0, 0], [0, 0, 0], place, [0, 0, 0, 1], turn
        )
        self._pose_arm()

    def _body(self, mass: float, parts: list[Part], place, turn=(0, 0, 0, 1), solid: bool = True) -> int:
        b = self.bullet
        kinds = {"box": b.GEOM_BOX, "ball": b.GEOM_SPHERE, "cylinder": b.GEOM_CYLINDER}
        shapes = {
            "shapeTypes": [kinds[part.kind] for part in parts],
            "radii": [float(part.size[0]) for part in parts],
            "lengths": [float(part.size[1]) if part.kind == "cylinder" else 1.0 for part in parts],
            "halfExtents": [[float(x) for x in part.size] if part.kind == "box" else [1.0] * 3 for part in parts],
        }
        places = [[float(x) for x in part.place] for part in parts]
        colours = [[*part.colour, 1] for part in parts]
        visual = b.createVisualShapeArray(**shapes, visualFramePositions=places, rgbaColors=colours)
        collision = b.createCollisionShapeArray(**shapes, collisionFramePositions=places) if solid else -1
        return b.createMultiBody(mass, collision, visual, [float(x) for x in place], list(turn))

    def _texture(self, body: int, picture: np.ndarray) -> None:
        file = self.textures / f"{body}.png"
        Image.fromarray(picture).save(file)
        texture = self.bullet.loadTexture(str(file))
        self.bullet.changeVisualShape(body, -1, textureUniqueId=texture, rgbaColor=[1, 1, 1, 1])

    # What happens

    def commands(self) -> Iterator[np.ndarray]:
        """One command a step of physics, for ever: above a thing's side, down, push, up, and on to the next."""
        here = self.command
        while True:
            above, below, beyond = self.push
            lifted = np.array([*beyond[:2], HIGH, beyond[3]])
            travel = np.hypot(*(above - here)[:2]) / 0.06
            legs = [(above, travel), (below, 1.5), (beyond, self.rng.uniform(5, 8)), (lifted, 1.5)]
            for goal, frames in legs:
                start, steps = here, round(frames * STEPS)
                for step in range(1, steps + 1):
                    done = step / steps
                    here = start + (goal - start) * (done * done * (3 - 2 * done))  # gently off and to a halt
                    yield here
            self.push = self._aim(here[3])

    def _aim(self, angle: float) -> np.ndarray:
        """Commands (3, 4): above the side of a thing, down beside it, and at the end of the push."""
        places, inside = self.places()[:, :2], np.array([WIDE, DEEP]) / 2
        for _ in range(300):
            i = int(self.rng.choice(self.aims))
            way = self.rng.uniform(0, 2 * math.pi)
            along = np.array([math.cos(way), math.sin(way)])
            aside = self.rng.normal(0, 0.25) * self.reach[i] * np.array([-along[1], along[0]])
            start = places[i] + aside - along * (self.reach[i] + 0.03)
            length = self.rng.uniform(0.16, 0.26)
            stop = start + along * length
            free = all(np.hypot(*(start - places[j])) > self.reach[j] + 0.03 for j in range(len(places)) if j != i)
            room, end = inside - 0.045, stop + along * self.reach[i]
            if free and (abs(start) < room).all() and (abs(end) < inside - self.reach[i]).all():
                break
        else:  # no thing can be pushed far: just go there
            stop = np.clip(stop, -room, room)
            start = np.clip(start, -room, room)
        turn = angle + (way - math.pi / 2 - angle + math.pi / 2) % math.pi - math.pi / 2  # the nearer of its two
        return np.array([[*start, HIGH, turn], [*start, LOW, turn], [*stop, LOW, turn]])

    def step(self, command: np.ndarray) -> None:
        place, turn = self._hold(command)
        self.bullet.changeConstraint(self.grip, place, turn, maxForce=60)
        self.bullet.stepSimulation()

    def _hold(self, command: np.ndarray) -> tuple[list[float], list[float]]:
        """Place and turn of the fingers' centre at a command."""
        turn = self.bullet.getQuaternionFromEuler([0, 0, float(command[3])])
        return [float(command[0]), float(command[1]), float(command[2]) + FINGER], list(turn)

    def gripper_place(self) -> np.ndarray:
        """(4,): x, y, z of the finger tips, and the gripper's angle about z."""
        place, turn = self.bullet.getBasePositionAndOrientation(self.gripper)
        return np.array([place[0], place[1], place[2] - FINGER, self.bullet.getEulerFromQuaternion(turn)[2]])

    def places(self) -> np.ndarray:
        """(things, 3)."""
        return np.array([self.bullet.getBasePositionAndOrientation(thing)[0] for thing in self.things])

    def _pose_arm(self) -> None:
        """Put the arm, which only looks, where the gripper needs it: the elbow up, in the plane of both its ends."""
        tips = self.gripper_place()
        wrist = tips[:3] + np.array([0, 0, TOOL])
        line = wrist - SHOULDER
        distance = min(float(np.linalg.norm(line)), UPPER_ARM + FOREARM - 1e-3)
        line /= np.linalg.norm(line)
        up = np.array([0, 0, 1]) - line[2] * line
        up /= np.linalg.norm(up)
        along = (distance**2 + UPPER_ARM**2 - FOREARM**2) / (2 * distance)
        elbow = SHOULDER + along * line + math.sqrt(max(UPPER_ARM**2 - along**2, 0)) * up
        for body, start, end in ((self.upper, SHOULDER, elbow), (self.fore, elbow, wrist)):
            self._put(body, (start + end) / 2, _turn_z_to(end - start))
        self._put(self.elbow, elbow)
        self._put(self.wrist, wrist)
        self._put(self.hand, wrist - [0, 0, TOOL - FINGER], self.bullet.getQuaternionFromEuler([0, 0, tips[3]]))

    def _put(self, body: int, place: np.ndarray, turn: Sequence[float] = (0, 0, 0, 1)) -> None:
        self.bullet.resetBasePositionAndOrientation(body, [float(x) for x in place], [float(x) for x in turn])

    # What it looks like

    def draw(self, image_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame (H, W, 3) uint8 and the area of each thing in it (things,), in pixels."""
        self._pose_arm()
        side = image_size * OVERSAMPLING
        pixels, depth, owners = self.camera.look(side, **self.shading)
        pixels *= 1 - 0.42 * self._shadow(self.camera.points(depth).reshape(-1, 3)).reshape(side, side, 1)
        pixels = pixels.reshape(image_size, OVERSAMPLING, image_size, OVERSAMPLING, 3).mean((1, 3))
        area = np.array([(owners == thing).sum() for thing in self.things]) / OVERSAMPLING**2
        return pixels.round().clip(0, 255).astype(np.uint8), area

    def _shadow(self, points: np.ndarray) -> np.ndarray:
        """(n,): how much of the lamp is hidden from points (n, 3), between 0 and 1."""
        side = 176
        _, depth, _ = self.lamp.look(side)
        nearest = np.pad(self.lamp.distance(depth), 2, mode="edge").ravel()
        column, row, distance = self.lamp.project(points, side)
        middle = (row.clip(0, side - 1) + 2) * (side + 4) + column.clip(0, side - 1) + 2
        around = [down * (side + 4) + right for down in (-2, 0, 2) for right in (-2, 0, 2)]
        return np.mean([nearest[middle + step] < distance - 0.018 for step in around], 0, dtype=np.float32)


class View:
    """Where something is seen from: a camera, or a lamp."""

    def __init__(self, bullet: World, eye: np.ndarray, target: np.ndarray, angle: float, near: float, far: float):
        self.bullet, self.near, self.far = bullet, near, far
        self.view = bullet.computeViewMatrix(eye.tolist(), target.tolist(), [0, 0, 1])
        self.projection = bullet.computeProjectionMatrixFOV(angle, 1, near, far)
        self.matrix = np.reshape(self.projection, (4, 4)).T @ np.reshape(self.view, (4, 4)).T

    def look(self, side: int, **shading: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colours (side, side, 3) from 0 to 255, depth from 0 to 1, and which body is seen, -1 where none is."""
        tiny = self.bullet.ER_TINY_RENDERER
        _, _, *images = self.bullet.getCameraImage(
            side, side, self.view, self.projection, renderer=tiny, shadow=0, **shading
        )
        pixels, depth, owners = (np.reshape(image, (side, side, -1)) for image in images)
        return pixels[..., :3].astype(np.float32), depth[..., 0], owners[..., 0]

    def distance(self, depth: np.ndarray) -> np.ndarray:
        """Depth in metres."""
        return self.near * self.far / (self.far - (self.far - self.near) * depth)

    def points(self, depth: np.ndarray) -> np.ndarray:
        """Where in the world the pixels (side, side) are: (side, side, 3)."""
        side = len(depth)
        middle = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
        x, y = np.meshgrid(middle, -middle)
        seen = np.stack([x, y, depth * 2 - 1, np.ones_like(x)], -1) @ np.linalg.inv(self.matrix).T.astype(np.float32)
        return seen[..., :3] / seen[..., 3:]

    def project(self, points: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns, rows and distances of points (n, 3) in an image (side, side)."""
        x, y, _, w = self.matrix[:, :3].astype(np.float32) @ points.T + self.matrix[:, 3:].astype(np.float32)
        column, row = ((1 + x / w) * side / 2).astype(int), ((1 - y / w) * side / 2).astype(int)
        return column, row, w


def _turn_z_to(direction: np.ndarray) -> np.ndarray:
    """Quaternion (x, y, z, w) of the shortest turn that takes the z axis to a direction."""
    x, y, z = direction / np.linalg.norm(direction)
    turn = np.array([-y, x, 0, 1 + z])
    return turn / np.linalg.norm(turn)


# Things, colours and patterns

KINDS = ("box", "bar", "ball", "cylinder", "disc", "tower", "dumbbell", "corner", "cross")


def _thing(rng: np.random.Generator, kind: str, colour: Colour) -> tuple[list[Part], float, float]:
    """Parts of a thing, half of its largest width, and its height, in metres."""
    second = _rgb(colorsys.rgb_to_hsv(*colour)[0] + rng.uniform(0.2, 0.8), 0.8, 0.95)
    r = float(rng.uniform(0.03, 0.04))
    if kind == "screen":
        a, b, h = rng.uniform(0.05, 0.07), 0.018, rng.uniform(0.1, 0.13)
        return [Part("box", (a, b, h / 2), colour=colour)], math.hypot(a, b), h
    if kind == "box":
        a, b, h = r * rng.uniform(0.8, 1.2), r * rng.uniform(0.8, 1.2), r * rng.uniform(1.2, 2)
        return [Part("box", (a, b, h / 2), colour=colour)], math.hypot(a, b), h
    if kind == "bar":
        return [Part("box", (1.8 * r, 0.55 * r, 0.5 * r), colour=colour)], 1.9 * r, r
    if kind == "ball":
        return [Part("ball", (r,), colour=colour)], r, 2 * r
    if kind == "cylinder":
        return [Part("cylinder", (0.9 * r, 2.2 * r), colour=colour)], 0.9 * r, 2.2 * r
    if kind == "disc":
        return [Part("cylinder", (1.4 * r, 0.8 * r), colour=colour)], 1.4 * r, 0.8 * r
    if kind == "tower":
        parts = [Part("box", (r, r, 0.6 * r), (0, 0, -0.6 * r), colour)]
        return [*parts, Part("cylinder", (0.75 * r, 1.2 * r), (0, 0, 0.6 * r), second)], 1.4 * r, 2.4 * r
    if kind == "dumbbell":
        ends = [Part("ball", (0.9 * r,), (side * 1.3 * r, 0, 0), colour) for side in (-1, 1)]
        return [*ends, Part("box", (1.3 * r, 0.4 * r, 0.4 * r), colour=second)], 2.2 * r, 1.8 * r
    if kind == "corner":
        parts = [Part("box", (1.6 * r, 0.55 * r, 0.55 * r), (0, -0.7 * r, 0), colour)]
        return [*parts, Part("box", (0.55 * r, 0.8 * r, 0.55 * r), (-1.05 * r, 0.6 * r, 0), colour)], 2.1 * r, 1.1 * r
    if kind == "cross":
        parts = [Part("box", (1.6 * r, 0.5 * r, 0.5 * r), colour=colour)]
        return [*parts, Part("box", (0.5 * r, 1.6 * r, 0.499 * r), colour=second)], 1.7 * r, r
    raise ValueError(kind)


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)


def _paint(colour: Colour | np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Picture (H, W, 3) uint8: a colour at a brightness (H, W)."""
    return (np.asarray(colour) * shade[..., None] * 255).round().clip(0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, cells: tuple[int, int], size: int = 128) -> np.ndarray:
    """Smooth noise (size, size) between -1 and 1 with so many cells down and across."""
    coarse = Image.fromarray(rng.uniform(-1, 1, cells).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def _wood(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    planks = int(rng.integers(4, 8))
    plank = np.arange(128) * planks // 128
    shade = rng.uniform(0.86, 1.04, planks)[plank][:, None] + 0.07 * _clouds(rng, (48, 3)) + 0.04 * _clouds(rng, (6, 4))
    shade[np.flatnonzero(np.diff(plank)) + 1] *= 0.75  # the joints
    return _paint(colour, shade)


def _felt(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    return _paint(colour, 0.96 + 0.05 * _clouds(rng, (4, 4)) + 0.05 * _clouds(rng, (64, 64)))


def _tiles(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    count = int(rng.integers(4, 7))
    at = np.arange(128) * count // 128
    shade = rng.uniform(0.88, 1.03, (count, count))[at][:, at] + 0.04 * _clouds(rng, (8, 8))
    joint = np.flatnonzero(np.diff(at)) + 1
    shade[joint] *= 0.8
    shade[:, joint] *= 0.8
    return _paint(colour, shade)


def _pattern(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    """Stripes, checks, dots or patches of a colour and another."""
    hue = colorsys.rgb_to_hsv(*colour)[0]
    second = [(0.97, 0.95, 0.9), _rgb(hue + rng.uniform(0.3, 0.7), 0.75, 0.95)][rng.integers(2)]
    y, x = np.indices((64, 64)) / 64
    n = int(rng.integers(2, 4))
    choice = rng.integers(5)
    if choice == 0:
        first = np.floor(x * 2 * n) % 2 == 0
    elif choice == 1:
        first = np.floor(y * 2 * n) % 2 == 0
    elif choice == 2:
        first = (np.floor(x * n * 2) + np.floor(y * n * 2)) % 2 == 0
    elif choice == 3:
        first = np.hypot(x * n % 1 - 0.5, y * n % 1 - 0.5) > 0.3
    else:
        first = _clouds(rng, (5, 5), 64) > 0
    return _paint(np.where(first[..., None], colour, second), np.ones((64, 64)))


# The data set


def videos(clips: int, seed: int, image_size: int) -> list[Video]:
    """What there is to make: ``clips`` to train and a twentieth as many, at least one, to validate and to test."""
    fewer = max(1, clips // 20)
    return [
        Video(f"{split}-{seed}-{i}", split, partial(_recording, split, seed, i, image_size), FRAMES)
        for split, count in (("train", clips), ("validation", fewer), ("test", fewer))
        for i in range(count)
    ]


def _recording(split: Split, seed: int, index: int, image_size: int) -> Recording:
    clip = simulate(split, seed, index, image_size)
    return Recording(f"{split}-{seed}-{index}", clip.frames, FPS, clip.actions)


def run(arguments: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--clips", type=int, required=True, help="how many clips to train on")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other clips")
    add_options(parser)
    options = parser.parse_args(arguments)
    for name, least in (("clips", 1), ("seed", 0), ("image_size", 8)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} must be at least {least}, not {getattr(options, name)}.")
    World().disconnect()  # without PyBullet, say so now
    shape = (options.image_size, options.image_size, 3)
    settings = {"seed": options.seed, "pybullet": version("pybullet")}
    made = videos(options.clips, options.seed, options.image_size)
    return convert(made, shape, options, source="pushing", settings=settings)


if __name__ == "__main__":
    main(run)
