# SPDX-License-Identifier: GPL-2.0-or-later
"""
Certificates for the hosts, where libvirt and QEMU look for them.
"""

from pathlib import Path
from typing import Sequence

from kuf.virt.hosts import Host


FOLDER = '/root/pki'
AUTHORITY = 'cn = "Hosts"\nca\ncert_signing_key\nexpiration_days = 3650\n'
HOST = '''\
cn = "{name}"
dns_name = "{name}"
signing_key
encryption_key
tls_www_server
tls_www_client
expiration_days = 3650
'''

# Of a host's files, which goes where; a key is its owner's alone.
PLACES = {
    'authority.pem': ['CA/cacert.pem', 'qemu/ca-cert.pem'],
    '{name}.pem': ['libvirt/servercert.pem', 'libvirt/clientcert.pem',
                   'qemu/server-cert.pem', 'qemu/client-cert.pem'],
    '{name}.key': ['libvirt/private/serverkey.pem',
                   'libvirt/private/clientkey.pem',
                   'qemu/server-key.pem', 'qemu/client-key.pem'],
}


def _certtool(host: Host, *words: str) -> None:
    host.run('certtool', *words)


def _create(maker: Host, name: str, template: str, *how: str) -> None:
    """NAME.key and NAME.pem."""
    path = f'{FOLDER}/{name}'
    maker.write(f'{path}.template', template)
    # RSA's: libvirt 9.0 wants keys that encrypt.
    _certtool(maker, '--generate-privkey', '--key-type', 'rsa', '--bits',
              '2048', '--outfile', f'{path}.key')
    _certtool(maker, *how, '--load-privkey', f'{path}.key', '--template',
              f'{path}.template', '--outfile', f'{path}.pem')


def install(hosts: Sequence[Host]) -> None:
    """One authority, and a certificate for each host."""
    maker = hosts[0]
    authority = f'{FOLDER}/authority'
    _create(maker, 'authority', AUTHORITY, '--generate-self-signed')
    for host in hosts:
        _create(maker, host.name, HOST.format(name=host.name),
                '--generate-certificate', '--load-ca-privkey',
                f'{authority}.key', '--load-ca-certificate',
                f'{authority}.pem')
        for source, places in PLACES.items():
            name = source.format(name=host.name)
            for place in places:
                path = f'/etc/pki/{place}'
                host.write(path, maker.read(f'{FOLDER}/{name}'))
                if name.endswith('.key'):
                    _own(host, path)


def _own(host: Host, path: str) -> None:
    """It is read by QEMU's user, or by root."""
    there: Path = host.path(path)
    there.chmod(0o600)
    if path.startswith('/etc/pki/qemu/'):
        host.run('chown', 'libvirt-qemu', path)
