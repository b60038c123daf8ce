# The experiment's table of contents: raw sources -> splits -> backbones -> reward models -> scores
# and policies -> tables, figures and claims. One preset at a time; the demo when none is named (by a
# file: `--config preset=NAME` renames it).

if "preset" not in config or not workflow.configfiles:

    configfile: "config/demo.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/cluster.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/splits.smk"
include: "workflow/rules/backbones.smk"
include: "workflow/rules/reward_models.smk"
include: "workflow/rules/released.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/policies.smk"
include: "workflow/rules/alpaca_eval.smk"
include: "workflow/rules/results.smk"


localrules:
    all,
    tables,
    figures,
    sources,
    backbones,
    reward_models,
    scores,
    policies,
    alpaca_eval,


rule all:
    default_target: True
    input:
        expand(f"{RUN}/results/{{artifact}}", artifact=TABLES + FIGURES),
        rules.metrics.output,
        rules.index.output,


rule tables:
    input:
        expand(f"{RUN}/results/{{artifact}}", artifact=TABLES),


rule figures:
    input:
        expand(f"{RUN}/results/{{artifact}}", artifact=FIGURES),


# Targets of the phases; `splits` is a rule itself. A model is requested by its record, because a
# release lacks the weights of some seeds.


rule sources:
    input:
        RAW,


rule backbones:
    input:
        expand(record("backbone"), backbone=BACKBONES),


rule reward_models:
    input:
        [
            record("reward_model").format(backbone=b, objective=o, seed=s)
            for b, o, s in REWARD_MODELS
        ],


rule scores:
    input:
        catalog.score_files(config, *config["grid"]["objectives"]),
        [catalog.benchmark_scores(config, name) for name in BENCHMARKS],
        catalog.ranks(config) if config["ranks"] else [],


rule policies:
    input:
        expand(at("policy_gold"), policy=POLICIES),


rule alpaca_eval:
    input:
        inputs_of("table3"),


# A run that made results leaves them in results/, and says what came out.
onsuccess:
    made = {job.rule.name for job in workflow.dag.finished_jobs}
    if made & {*RESULTS, "index"}:
        publish([path for path in map(Path, PUBLISHED) if path.is_file()])
    if "index" in made:
        claims = read_verdicts(Path(at("result", name="claims")))
        logger.info(
            f"\n{tally(claims)}\nAll results on one page: results/index.html\n"
        )
