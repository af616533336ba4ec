# SPDX-License-Identifier: GPL-2.0-or-later
"""
The commands that are tested, word for word as the operators' page has them.

The guest's name and the other host's are those of the page.
"""

from typing import Dict


COMMANDS: Dict[str, str] = {
    'migrate': 'virsh migrate --live --p2p --postcopy guest '
               'qemu+tcp://beta/system',
    'migrate-direct': 'virsh migrate --live --postcopy guest '
                      'qemu+tcp://beta/system',
    'migrate-back': 'virsh migrate --live --p2p --postcopy guest '
                    'qemu+tcp://alpha/system',
    'migrate-changed': 'virsh migrate --live --p2p --postcopy '
                       '--xml destination.xml guest qemu+tcp://beta/system',
    'migrate-tls': 'virsh migrate --live --p2p --tls --postcopy guest '
                   'qemu+tls://beta/system',
    'after-precopy': 'virsh migrate --live --p2p --postcopy '
                     '--postcopy-after-precopy guest qemu+tcp://beta/system',
    'switch': 'virsh migrate-postcopy guest',
    'progress': 'virsh domjobinfo guest',
    'interrupt': 'virsh domjobabort --postcopy guest',
    'resume': 'virsh migrate --live --p2p --postcopy --postcopy-resume guest '
              'qemu+tcp://beta/system',
    'cancel': 'virsh domjobabort guest',
    'completed': 'virsh domjobinfo --completed guest',
    'backend': 'virsh qemu-monitor-command guest --pretty '
               '\'{"execute": "query-migrate"}\'',
    'speed': 'virsh migrate-setspeed guest 16',
    'postcopy-speed': 'virsh migrate-setspeed --postcopy guest 2',
    'plug-vcpus': 'virsh setvcpus --live guest 3',
    'plug-memory': 'virsh attach-device --live guest memory.xml',
}
