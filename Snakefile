# The experiment's table of contents: raw sources -> splits -> backbones -> reward models -> scores
# -> tables and figures. One preset at a time; the demo when none is named.

if "preset" not in config:

    configfile: "config/demo.yaml"


include: "workflow/rules/common.smk"


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


include: "workflow/rules/sources.smk"
include: "workflow/rules/splits.smk"
include: "workflow/rules/backbones.smk"
include: "workflow/rules/reward_models.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/results.smk"
