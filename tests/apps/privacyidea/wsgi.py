import os

from privacyidea.app import create_app

SETTINGS = os.path.join(os.path.dirname(__file__), "pi.cfg")
application = create_app(config_name="production", config_file=SETTINGS, silent=True)
