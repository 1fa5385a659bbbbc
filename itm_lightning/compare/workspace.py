"""A comparison in W&B: a report and a workspace of its runs, built by wandb-workspaces."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from itm_lightning.compare.findings import Findings
from itm_lightning.compare.runs import Variant
from itm_lightning.compare.table import to_markdown
from itm_lightning.errors import InputError, one_line
from itm_lightning.resume.run import Run

_RATES = [f"{way}_R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
_OVER_EPOCHS = ("val/rsum", "val/loss")
_OVER_STEPS = ("train/loss", "train/lr", "train/temperature", "train/images_per_second")


def checked_target(target: str) -> tuple[str, str]:
    """Entity and project of ``--wandb ENTITY/PROJECT``.

    Raises:
        InputError: it is not of that form, or wandb-workspaces is not installed.
    """
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", target):
        raise InputError(f"--wandb {target!r}: give ENTITY/PROJECT, as in --wandb my-team/itm")
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError as error:
        raise InputError("--wandb needs: pip install 'itm-lightning[workspaces]'") from error
    entity, project = target.split("/")
    return entity, project


def publish(findings: Findings, entity: str, project: str, local_html: Path) -> str:
    """Saves the comparison's report and workspace in W&B.

    Args:
        findings: what is shown.
        entity: a user or a team of W&B.
        project: in which the runs are.
        local_html: the report that has the same views.

    Returns:
        A line that says where they are; or why they are not, as without a login or a network.
    """
    instead = f"the same views are in {local_html}"
    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return f"no report in W&B, which is {os.environ['WANDB_MODE']} here: {instead}"
    runs = [outcome for variant in findings.variants for outcome in variant.outcomes]
    if not any("WandbLogger" in str(run.config.get("trainer", {}).get("logger")) for run in runs):
        return f"no report in W&B, to which none of the runs was logged: {instead}"
    said = []
    for name, make in ("report", report), ("workspace", workspace):
        try:
            made = make(findings, entity, project)
            made.save()
            said.append(f"{name} in W&B: {made.url}")
        except Exception as error:  # wandb raises whatever went wrong on the way
            said.append(f"no {name} in W&B ({one_line(error)}): {instead}")
            break
    return "\n".join(said)


def report(findings: Findings, entity: str, project: str) -> Any:
    """The comparison as a ``wandb_workspaces.reports.v2.Report``, not saved; needs no login.

    Args:
        findings: what is shown; each variant is a set of runs, those of its seeds averaged.
        entity: a user or a team of W&B.
        project: in which the runs are.
    """
    from wandb_workspaces import expr
    from wandb_workspaces.reports import v2 as wr

    runsets = [
        wr.Runset(
            entity=entity,
            project=project,
            name=variant.label,
            filters=[expr.Metric("ID").isin(wandb_ids(variant))],
            groupby=["group"] if len(variant.outcomes) > 1 else [],
        )
        for variant in findings.variants
        if variant.outcomes
    ]
    blocks: list[Any] = [
        wr.P(
            f"{findings.dataset}, {findings.split}: {findings.images} images, {findings.texts} "
            f"texts, protocol {findings.protocol}. What differs: {findings.factor}."
        ),
        wr.MarkdownBlock(to_markdown(findings.rows, findings.differences)),
    ]
    if findings.notes:
        blocks.append(wr.UnorderedList(items=list(findings.notes)))
    for heading, panels in views(findings.split).items():
        blocks += [wr.H2(heading), wr.PanelGrid(runsets=runsets, panels=panels)]
    title = f"Comparison of {findings.factor} on {findings.dataset}"
    return wr.Report(project=project, entity=entity, title=title, blocks=blocks, width="fluid")


def workspace(findings: Findings, entity: str, project: str) -> Any:
    """The same views as a ``wandb_workspaces.workspaces.Workspace``, not saved; arguments alike."""
    from wandb_workspaces import expr, workspaces

    ids = [each for variant in findings.variants for each in wandb_ids(variant)]
    sections = [
        workspaces.Section(name=heading, panels=panels, is_open=True)
        for heading, panels in views(findings.split).items()
    ]
    runs = workspaces.RunsetSettings(
        filters=[expr.Metric("ID").isin(ids)], groupby=[expr.Metric("Group")]
    )
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"Comparison of {findings.factor} on {findings.dataset}",
        sections=sections,
        runset_settings=runs,
    )


def views(split: str) -> dict[str, list[Any]]:
    """Panels by heading: scores, curves, and what was retrieved on the split."""
    from wandb_workspaces.reports import v2 as wr

    scored = "best" if split == "val" else split  # as a fit's summary names its best checkpoint
    return {
        "Scores": [
            wr.BarPlot(title="rsum", metrics=[f"{scored}/rsum"]),
            *(wr.BarPlot(title=rate, metrics=[f"{scored}/{rate}"]) for rate in _RATES),
        ],
        "Training": [
            *(wr.LinePlot(title=key, x="epoch", y=[key]) for key in _OVER_EPOCHS),
            *(wr.LinePlot(title=key, x="trainer/global_step", y=[key]) for key in _OVER_STEPS),
        ],
        "Retrieved": [
            wr.WeavePanelSummaryTable(table_name=f"{split}/retrieved_texts"),
            wr.WeavePanelSummaryTable(table_name=f"{split}/retrieved_images"),
            wr.MediaBrowser(title="words in images", media_keys=[f"{split}/word_maps"]),
        ],
    }


def wandb_ids(variant: Variant) -> list[str]:
    """The ids in W&B of a variant's runs."""
    ids = (Run(outcome.folder, "fit").wandb_id for outcome in variant.outcomes)
    return [each for each in ids if each]
