# Downloaded artifacts (section `artifacts`), converted to this repository's layout: models, with
# one rule for each set of training logs that comes along, and splits.

for name, released in RELEASED.items():

    rule:
        name:
            name
        input:
            at("pretrained", model="{released}"),
        output:
            expand(
                f"{RUN}/{{{{released}}}}/{{file}}",
                file=[
                    "model.safetensors",
                    "record.json",
                    *artifacts.files_needed(config, released[0]),
                ],
            ),
        log:
            f"logs/{config['preset']}/{{released}}.log",
        wildcard_constraints:
            released="|".join(map(re.escape, released)),
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("released", "released"),
        params:
            settings=lambda wildcards: as_json(
                artifacts.adoption(config, wildcards.released)
            ),
            folder=subpath(output[0], parent=True),
            work=f"{RUN}/work/{{released}}",
        shell:
            "rm-robustness adopt --settings {params.settings:q} --pretrained {input}"
            " --work {params.work} --output {params.folder} > {log} 2>&1"


if SPLITS_RELEASED:

    rule splits:
        input:
            expand(at("pretrained"), model=SPLITS_RELEASED),
        output:
            expand(at("split"), split=SPLITS),
            manifest=at("splits_manifest"),
            record=record("splits"),
        log:
            f"logs/{config['preset']}/splits.log",
        conda:
            "../../environment.yml"
        params:
            folder=subpath(output.manifest, parent=True),
        shell:
            "rm-robustness adopt_splits --pretrained {input} --output {params.folder}"
            " > {log} 2>&1"
