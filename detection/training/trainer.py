"""Detectron2's training loop for faces: AdamW, clean stops, the best weights kept."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2 import engine
from detectron2.data import DatasetCatalog, build_detection_test_loader
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.solver import build_optimizer
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventStorage, JSONWriter
from torch.nn.parallel import DistributedDataParallel

from detection.data.mapper import FaceMapper
from detection.modeling import random_start
from detection.modeling.checkpoints import BEST_FILE, FaceCheckpointer, save_weights
from detection.modeling.config import build_network
from detection.training.evaluator import FaceEvaluator, average_precision
from detection.training.resume import check_conditions, conditions
from detection.training.samples import TrainingSamples
from faces.command import UserError
from faces.files import regular_file

LOG_FILE = "training_log.jsonl"

ADVICE = (
    "Usual causes: a learning rate that is too high (try a third of SOLVER.BASE_LR, or a longer "
    "SOLVER.WARMUP_ITERS), gradients that burst (SOLVER.CLIP_GRADIENTS.ENABLED True), half "
    "precision (SOLVER.AMP.ENABLED False, MODEL.BF16 off), or broken weights (MODEL.WEIGHTS). "
    "Start again with another OUTPUT_DIR"
)

BURST = 10.0
"""A training has diverged if its loss at the end is so many times that at the beginning."""

LOSSES = 20
"""Iterations whose mean loss counts as that at the beginning, and at the end."""


class Interrupted(BaseException):
    """Training was asked to stop, and has saved where it is, after so many iterations."""

    def __init__(self, iteration: int) -> None:
        super().__init__(iteration)
        self.iteration = iteration


class FaceTrainer(engine.TrainerBase):
    """Detectron2's training workflow with this project's data, optimiser and evaluation.

    Set ``stop_requested`` from anywhere (a signal handler) and the loop saves a checkpoint after
    the running iteration and raises ``Interrupted``.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.iter: int = 0
        cfg = scaled(cfg, comm.get_world_size())
        model = build_network(cfg)
        optimizer = make_optimizer(cfg, model)
        self.samples = TrainingSamples(
            cfg, cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        )
        self.conditions = conditions(cfg)
        trainer_class = engine.AMPTrainer if cfg.SOLVER.AMP.ENABLED else engine.SimpleTrainer
        self._trainer = trainer_class(_distributed(model), self.samples, optimizer)
        self.cfg = cfg
        self.stop_requested = False
        self.max_iter: int = cfg.SOLVER.MAX_ITER
        self.scheduler = engine.DefaultTrainer.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = FaceCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.progress = Progress(cfg)
        self.register_hooks(self._hook_list())

    @property
    def model(self) -> torch.nn.Module:
        """The model under training, without any wrapper."""
        return self.checkpointer.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser."""
        return self._trainer.optimizer

    def _hook_list(self) -> list[engine.HookBase]:
        solver = self.cfg.SOLVER
        everywhere = [
            engine.hooks.IterationTimer(),
            engine.hooks.LRScheduler(scheduler=self.scheduler),
            self.progress,
        ]
        if not comm.is_main_process():
            return everywhere
        log = Path(self.cfg.OUTPUT_DIR) / LOG_FILE
        every_iteration = JSONWriter(str(regular_file(log) if log.exists() else log), window_size=1)
        return [
            *everywhere,
            engine.hooks.PeriodicCheckpointer(
                self.checkpointer, solver.CHECKPOINT_PERIOD, max_to_keep=solver.KEEP_CHECKPOINTS
            ),
            engine.hooks.PeriodicWriter([CommonMetricPrinter(self.max_iter)], period=20),
            engine.hooks.PeriodicWriter([every_iteration], period=1),
        ]

    def resume_or_load(self, resume: bool) -> None:
        """Load the last checkpoint of ``OUTPUT_DIR`` and its iteration, or ``MODEL.WEIGHTS``.

        A ``UserError`` says that it is of a training under other ``conditions``, or of a longer
        one.
        """
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.samples.start = self.iter + 1
            if self.start_iter > self.max_iter:
                raise UserError(
                    f"{self.cfg.OUTPUT_DIR}: has done {self.start_iter} iterations already; "
                    f"SOLVER.MAX_ITER {self.max_iter} is fewer"
                )
        elif not self.cfg.MODEL.WEIGHTS:
            random_start.measure_norms(self.model, self._first_pictures)

    def _first_pictures(self) -> list[dict[str, Any]]:
        """Return the first inputs, the same in every process."""
        mapper = FaceMapper(self.cfg, is_train=False)
        records = DatasetCatalog.get(self.cfg.DATASETS.TRAIN[0])
        return [mapper(record) for record in records[: random_start.IMAGES]]

    def train(self) -> None:
        """Run from ``start_iter`` to the end.

        Raises:
            Interrupted: ``stop_requested`` was set; a checkpoint has been saved.
            UserError: the training diverged.
        """
        self.iter = self.start_iter
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                for iteration in range(self.start_iter, self.max_iter):
                    self.iter = iteration
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    self._stop_if_asked()
                self.iter = self.max_iter
            finally:
                self.after_train()
        self._check_outcome()

    def run_step(self) -> None:
        """Do one iteration: forward, backward, update."""
        self._trainer.iter = self.iter
        torch.manual_seed(self.samples.seed_of(self.iter))
        try:
            self._trainer.run_step()
        except FloatingPointError as error:
            raise UserError(
                f"the loss is no longer a finite number: {' '.join(str(error).split())}. {ADVICE}"
            ) from error

    def _check_outcome(self) -> None:
        """Refuse to call a training finished whose loss has burst, or whose weights have."""
        first, last = self.progress.mean_losses()
        if any(comm.all_gather(last > BURST * first)):
            raise UserError(
                f"the training has diverged: its loss was {first:.3g} in the first iterations and "
                f"{last:.3g} in the last. {ADVICE}"
            )
        if not all(value.isfinite().all() for value in self.model.state_dict().values()):
            raise UserError(f"the weights are no longer finite numbers. {ADVICE}")

    def _stop_if_asked(self) -> None:
        asked = any(comm.all_gather(self.stop_requested))
        if asked and self.iter + 1 < self.max_iter:
            self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
            raise Interrupted(self.iter + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return iteration, hooks, optimiser, and what must be the same to go on."""
        return {
            **super().state_dict(),
            "_trainer": self._trainer.state_dict(),
            "seed": self.samples.seed,
            "conditions": self.conditions,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, if the conditions are the same."""
        # checkpoints of older versions do not say under which conditions they were made
        now = self.conditions
        check_conditions(self.cfg.OUTPUT_DIR, state_dict.get("conditions", now), now)
        self.samples.seed = state_dict.get("seed", self.samples.seed)
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])


class Progress(engine.HookBase):
    """Evaluates from time to time, keeps the best weights, adds up the time."""

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg
        self.period: int = cfg.TEST.EVAL_PERIOD
        self.best_ap = float("-inf")
        self.best_iteration = -1
        self.seconds = 0.0
        self.losses: list[float] = []
        self._started = time.monotonic()

    def before_train(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def after_step(self) -> None:
        """Note the loss; evaluate when it is time, and after the last iteration."""
        if comm.is_main_process():
            self._note(self.trainer.storage.latest()["total_loss"][0])
        done = self.trainer.iter + 1
        last = done == self.trainer.max_iter
        if len(self.cfg.DATASETS.TEST) and (last or (self.period and done % self.period == 0)):
            self.evaluate(done)

    def evaluate(self, done: int) -> None:
        """Measure on the first of ``DATASETS.TEST``; keep the weights if the AP is the best."""
        _, metrics = evaluate_model(self.cfg, self.trainer.model, self.cfg.DATASETS.TEST[0])
        if comm.is_main_process():
            self.trainer.storage.put_scalars(
                **{f"validation/{name}": v for name, v in metrics.items()}, smoothing_hint=False
            )
            if metrics["AP"] > self.best_ap or self.best_iteration < 0:
                self.best_ap, self.best_iteration = metrics["AP"], done
                save_weights(Path(self.cfg.OUTPUT_DIR) / BEST_FILE, self.trainer.model)
        comm.synchronize()

    def _note(self, loss: float) -> None:
        """Keep the first and the latest losses."""
        self.losses.append(loss)
        if len(self.losses) > 2 * LOSSES:
            del self.losses[LOSSES]

    def mean_losses(self) -> tuple[float, float]:
        """Return the mean loss of the first and of the latest iterations; zeros on workers."""
        some = max(min(len(self.losses) // 2, LOSSES), 1)
        first, last = self.losses[:some] or [0.0], self.losses[-some:] or [0.0]
        return sum(first) / len(first), sum(last) / len(last)

    def elapsed(self) -> float:
        """Return the seconds of training so far, those before ``--resume`` included."""
        return self.seconds + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        """Return what ``--resume`` must know."""
        return {
            "losses": self.losses,
            "best_ap": self.best_ap,
            "best_iteration": self.best_iteration,
            "seconds": self.elapsed(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.losses = list(state.get("losses", ()))
        self.best_ap = state["best_ap"]
        self.best_iteration = int(state["best_iteration"])
        self.seconds = state["seconds"]


def scaled(cfg: Any, processes: int) -> Any:
    """Return the configuration for so many processes: ``SOLVER.REFERENCE_WORLD_SIZE`` says how.

    A ``UserError`` says that the batch cannot be shared out.
    """
    scaled_cfg = engine.DefaultTrainer.auto_scale_workers(cfg, processes)
    batch = scaled_cfg.SOLVER.IMS_PER_BATCH
    if batch % processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH {batch}: cannot be shared out to {processes} processes; give a "
            "multiple of that, or SOLVER.REFERENCE_WORLD_SIZE 1, which scales batch, rate and "
            "iterations"
        )
    return scaled_cfg


def predict(
    cfg: Any, model: torch.nn.Module, dataset: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run a model over a registered data set, in all processes.

    Returns the truth (Detectron2 records, faces below ``TEST.MIN_FACE`` ignored) and the COCO
    results, which are empty on worker processes.
    """
    loader = build_detection_test_loader(cfg, dataset, mapper=FaceMapper(cfg, is_train=False))
    evaluator = FaceEvaluator(dataset, cfg.TEST.MIN_FACE, cfg.MODEL.CONTAINMENT)
    inference_on_dataset(model, loader, evaluator)
    return evaluator.truth, evaluator.gathered


def evaluate_model(cfg: Any, model: torch.nn.Module, dataset: str) -> tuple[int, dict[str, float]]:
    """Measure a model on one registered data set.

    Returns the number of images, and COCO's AP, AP50, AP75, APs, APm, APl, 0–100; {} on workers.
    """
    truth, results = predict(cfg, model, dataset)
    if not comm.is_main_process():
        return len(truth), {}
    metrics = average_precision(truth, results)
    print_csv_format({"bbox": metrics})
    return len(truth), metrics


def make_optimizer(cfg: Any, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Build what ``SOLVER.OPTIMIZER`` names: Detectron2's own SGD, or AdamW, a slower backbone."""
    solver = cfg.SOLVER
    if solver.OPTIMIZER == "SGD":
        return build_optimizer(cfg, model)
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pretrained = name.startswith("backbone.bottom_up.")
            rate = solver.BASE_LR * (solver.BACKBONE_LR_FACTOR if pretrained else 1.0)
            decay = solver.WEIGHT_DECAY if parameter.dim() > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    grouped = [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()]
    return maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(grouped, lr=solver.BASE_LR)


def _distributed(model: torch.nn.Module) -> torch.nn.Module:
    """Wrap for several processes; Detectron2's own wrapper insists on GPUs."""
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).is_cuda
    devices = [int(os.environ.get("LOCAL_RANK", comm.get_local_rank()))] if on_gpu else None
    return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
