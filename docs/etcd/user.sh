#!/bin/sh
# Makes the role and the user of the sidecars, by etcdctl, as a user who may do
# so. The user is known by the common name of its certificate; for a user with a
# password leave out --no-password, and etcdctl asks for one.
set -eu
etcdctl role add locksidecar
etcdctl role grant-permission locksidecar --prefix=true readwrite locksidecar/
etcdctl user add locksidecar --no-password
etcdctl user grant-role locksidecar locksidecar
