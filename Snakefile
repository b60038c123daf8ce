# The experiment's table of contents: raw sources -> splits -> backbones -> reward models -> scores
# and policies -> tables, figures and claims. One preset at a time; the demo when none is named.

if "preset" not in config:

    configfile: "config/demo.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/cluster.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/splits.smk"
include: "workflow/rules/backbones.smk"
include: "workflow/rules/reward_models.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/policies.smk"
include: "workflow/rules/alpaca_eval.smk"
include: "workflow/rules/results.smk"


localrules:
    all,
    tables,
    figures,


rule all:
    default_target: True
    input:
        expand("results/{artifact}", artifact=TABLES + FIGURES),


rule tables:
    input:
        expand("results/{artifact}", artifact=TABLES),


rule figures:
    input:
        expand("results/{artifact}", artifact=FIGURES),
