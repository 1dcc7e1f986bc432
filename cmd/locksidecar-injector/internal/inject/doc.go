// Package inject makes of a pod one with the sidecar in it, or says why not.
//
// It guarantees that what it adds is decided by the injector's configuration,
// and by a pod only as far as [Annotations] list: never the image, the
// arguments or the security context. A container, a volume or a mount that
// stands where its own belong is refused ([Refusal]), unless it is what this
// package makes: that is made anew, and what others added to it stays. So to
// inject twice is to inject once, also when others changed the pod in between,
// and a pod that was written down and created again is injected as a new one.
//
// It does not guarantee that the pod runs: a ConfigMap, a Secret or an image may
// be missing, which the kubelet tells.
//
// [Settings.Inject] does it. It has no clock, no network and no state.
package inject
