# The image of the sidecar and of its injector: two static binaries and what they
# are made of, nothing else; no shell, no package, no file that anybody may write.
#
# The binaries are not compiled in here: Go cross-compiles them, so no machine is
# emulated and the builder runs nothing. `make image` makes them and calls a
# builder; CA certificates are in the daemon itself (golang.org/x/crypto/x509roots),
# so that the image's bytes depend on the tree alone.
FROM scratch
ARG TARGETARCH
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="locksidecar" \
      org.opencontainers.image.description="Distributed locks with fencing tokens, beside an application" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY build/image/$TARGETARCH/ /
USER 65532:65532
ENTRYPOINT ["/locksidecar"]
