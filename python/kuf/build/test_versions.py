# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of how versions are ordered.
"""

import unittest

from kuf.build import versions


class VersionsTest(unittest.TestCase):
    """As dpkg orders them."""

    ORDERED = ['10.0.2~rc1-1', '10.0.2+ds-2+deb13u1~bpo12+1',
               '10.0.2+ds-2+deb13u1', '10.0.9-1', '10.0.13+ds-0+deb13u1',
               '10.0.100-1', '10.1.0-1', '1:2.0-1']

    def test_order(self) -> None:
        self.assertEqual(sorted(reversed(self.ORDERED), key=versions.key),
                         self.ORDERED)

    def test_upstream(self) -> None:
        for version, upstream in {
                '1:10.0.13+ds-0+deb13u1': '10.0.13', '6.12.118-1': '6.12.118',
                '3.0+dfsg-1': '3.0', '1.7.0': '1.7.0'}.items():
            self.assertEqual(versions.upstream(version), upstream)
