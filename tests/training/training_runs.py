"""Running ``fit`` in a process of its own, without the seconds that importing torch takes."""

import multiprocessing
import os

import yaml

from vkdnw_pl.cli import main
from vkdnw_pl.training.module import TrainingModule

TINY_ARCH = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"


def run_fit(config, out, *options, signum=None, step=None, during="on_train_batch_end", **environment):
    """Train in a forked process; one that gets a signal in a hook after that many steps. Returns its exit code."""
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config))

    def work():
        os.environ.update(environment)
        if signum is not None:
            once = []

            def strike(self, *arguments):
                if self.global_step == step and not once and not self.trainer.sanity_checking:
                    once.append(True)
                    os.kill(os.getpid(), signum)

            setattr(TrainingModule, during, strike)
        os._exit(main(["fit", "--config", str(file), "--out", str(out), *options]))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode
