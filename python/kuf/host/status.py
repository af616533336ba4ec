# SPDX-License-Identifier: GPL-2.0-or-later
"""
Exit statuses of those who run a command in a host, beside the command's own.
"""

# It ran too long.
TIMEOUT = 124
# The host could not be started, or its kernel complained.
FAILED = 125
# It was not found.
NOT_FOUND = 127
