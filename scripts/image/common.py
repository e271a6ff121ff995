"""Paths, and the parts of this machine that build steps use."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(os.environ.get("TRY_IMAGE_FOLDER", "/var/tmp/try-image"))
SUITE = "bookworm"
TOOLCHAIN = "/usr/local/rustup/toolchains/stand-in"
CERTIFICATES = "/run/try-image-certificates.crt"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Settings by which programs find the trusted certificates.
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "CARGO_HTTP_CAINFO", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")


def say(text):
    print(f"try-image: {text}", file=sys.stderr, flush=True)


def fail(text):
    say(text)
    sys.exit(1)


class Host:
    """Parts of this machine that build steps use and that are not in the image: a toolchain, certificates, settings."""

    def __init__(self, certificates):
        sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
        self.toolchain, self.certificates = sysroot.stdout.strip(), certificates
        self.env = dict.fromkeys(CERTIFICATE_VARIABLES, CERTIFICATES) if certificates else {}
