"""`./dev bench`: what the product promises of its speed, as ratios within one run."""

import os
import sys

from tests import cluster

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")


def main() -> int:
    """Run the benchmark on a throw-away cluster."""
    cluster.lay_out()
    cluster.ensure()
    import django
    from django.test.utils import setup_test_environment

    django.setup()
    setup_test_environment()
    from tests.bench import keys_page

    return keys_page.main()


if __name__ == "__main__":
    sys.exit(main())
