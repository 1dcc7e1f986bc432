package inject

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// random is any pod that may be injected.
func random(r *rand.Rand) *corev1.Pod {
	p := plain()
	some := func() bool { return r.IntN(2) == 0 }
	container := func(name string, i int) corev1.Container {
		c := corev1.Container{Name: fmt.Sprint(name, i), Image: "x"}
		for j := range r.IntN(3) {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: fmt.Sprint("v", j), MountPath: fmt.Sprint("/data/", j)})
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprint("E", j), Value: "1"})
		}
		if some() {
			c.Env = append(c.Env, corev1.EnvVar{Name: EndpointVariable, Value: Endpoint})
		}
		if some() {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 8080}}
		}
		return c
	}
	p.Spec.InitContainers, p.Spec.Containers = nil, nil
	for i := range r.IntN(3) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, container("init", i))
	}
	for i := range 1 + r.IntN(3) {
		p.Spec.Containers = append(p.Spec.Containers, container("app", i))
	}
	for i := range r.IntN(3) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", i)})
	}
	wish(r, p)
	p.Spec.HostNetwork = r.IntN(4) == 0
	return p
}

// wish chooses annotations.
func wish(r *rand.Rand, p *corev1.Pod) {
	choices := map[string][]string{
		"config": {"web", "web.locks"}, "image-pull-policy": {"Always", "Never"}, "cpu-request": {"10m", "0.02"}, "cpu-limit": {"1", "2000m"},
		"memory-request": {"1Mi"}, "memory-limit": {"512Mi"}, "run-as-user": {"1", "1000"}, "log-level": {"warn"}, "containers": {p.Spec.Containers[0].Name},
	}
	for _, a := range Annotations {
		if delete(p.Annotations, Prefix+a.Name); r.IntN(3) == 0 {
			values := choices[a.Name]
			p.Annotations[Prefix+a.Name] = values[r.IntN(len(values))]
		}
	}
}

// others are what a cluster and other webhooks do to a pod in between.
var others = map[string]func(r *rand.Rand, p *corev1.Pod){
	"ServiceAccount admission mounts its token everywhere": func(_ *rand.Rand, p *corev1.Pod) {
		const token = "kube-api-access-x2f7q"
		if volume(p, token).Name == "" {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: token})
		}
		for c := range containers(&p.Spec) {
			if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == token }) {
				c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: token, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true})
			}
		}
	},
	"an identity webhook adds variables and mounts everywhere": func(_ *rand.Rand, p *corev1.Pod) {
		for c := range containers(&p.Spec) {
			if !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "AWS_ROLE_ARN" }) {
				c.Env = slices.Insert(c.Env, 0, corev1.EnvVar{Name: "AWS_ROLE_ARN", Value: "arn:aws:iam::1:role/x"})
				c.VolumeMounts = slices.Insert(c.VolumeMounts, 0, corev1.VolumeMount{Name: "aws-iam-token", MountPath: "/var/run/secrets/eks.amazonaws.com/serviceaccount", ReadOnly: true})
			}
		}
	},
	"a LimitRange adds what is missing": func(_ *rand.Rand, p *corev1.Pod) {
		for c := range containers(&p.Spec) {
			if c.Resources.Limits == nil {
				c.Resources.Limits = corev1.ResourceList{}
			}
			if _, ok := c.Resources.Limits["ephemeral-storage"]; !ok {
				c.Resources.Limits["ephemeral-storage"] = resource.MustParse("1Gi")
			}
		}
	},
	"a mesh puts a container at the beginning": func(_ *rand.Rand, p *corev1.Pod) {
		if !slices.Contains(names(&p.Spec), "mesh-init") {
			p.Spec.InitContainers = slices.Insert(p.Spec.InitContainers, 0, corev1.Container{Name: "mesh-init", Image: "mesh"})
		}
	},
	"a mesh adds a container": func(_ *rand.Rand, p *corev1.Pod) {
		if !slices.Contains(names(&p.Spec), "mesh") {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "mesh", Image: "mesh"})
		}
	},
	"AlwaysPullImages has every image pulled": func(_ *rand.Rand, p *corev1.Pod) {
		for c := range containers(&p.Spec) {
			c.ImagePullPolicy = corev1.PullAlways
		}
	},
	"somebody sorts the volumes": func(_ *rand.Rand, p *corev1.Pod) {
		slices.SortFunc(p.Spec.Volumes, func(a, b corev1.Volume) int { return len(a.Name) - len(b.Name) })
	},
	"somebody changes the order of the init containers": func(r *rand.Rand, p *corev1.Pod) {
		r.Shuffle(len(p.Spec.InitContainers), func(i, j int) {
			in := p.Spec.InitContainers
			in[i], in[j] = in[j], in[i]
		})
	},
	"the server writes its defaults": func(_ *rand.Rand, p *corev1.Pod) {
		for c := range containers(&p.Spec) {
			c.TerminationMessagePath, c.TerminationMessagePolicy = "/dev/termination-log", corev1.TerminationMessageReadFile
		}
	},
	"somebody confines it further": func(_ *rand.Rand, p *corev1.Pod) {
		for i := range p.Spec.InitContainers {
			if c := &p.Spec.InitContainers[i]; c.Name == Container {
				group := int64(7)
				c.SecurityContext.RunAsGroup, c.SecurityContext.SELinuxOptions = &group, &corev1.SELinuxOptions{Level: "s0"}
			}
		}
	},
}

// To inject twice is to inject once, whatever the pod is.
func TestInjectingTwiceIsInjectingOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 29))
	for range 100 {
		unchanged(t, settings(), injected(t, settings(), random(r)))
	}
}

// What others did to an injected pod stays, and is not done again; and what they
// added gets what it should have.
func TestWhatOthersDidInBetweenStays(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 29))
	names := make([]string, 0, len(others))
	for name := range others {
		names = append(names, name)
	}
	slices.Sort(names)
	for range 100 {
		p := injected(t, settings(), random(r))
		delete(p.Annotations, Prefix+"containers") // whose containers may stand elsewhere now
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names[:1+r.IntN(len(names))] {
			others[name](r, p)
		}
		once := injected(t, settings(), p)
		unchanged(t, settings(), once)
		if len(once.Spec.Volumes) != len(p.Spec.Volumes) || len(once.Spec.InitContainers) != len(p.Spec.InitContainers) || len(once.Spec.Containers) != len(p.Spec.Containers) {
			t.Fatalf("something was lost or came twice:\n%s", text(t, once))
		}
		c, was := sidecarOf(t, once), sidecarOf(t, p)
		if len(c.VolumeMounts) != len(was.VolumeMounts) || len(c.Env) != len(was.Env) || len(c.Resources.Limits) != len(was.Resources.Limits) {
			t.Fatalf("what others added to the sidecar was lost:\n%s", text(t, once))
		}
		if was.ImagePullPolicy == corev1.PullAlways && c.ImagePullPolicy != corev1.PullAlways {
			t.Fatalf("the image is not pulled any more as the cluster wants it:\n%s", text(t, once))
		}
		for i := range once.Spec.Containers {
			if !served(&once.Spec.Containers[i]) {
				t.Fatalf("%s has no socket:\n%s", once.Spec.Containers[i].Name, text(t, once))
			}
		}
		before := true
		for i := range once.Spec.InitContainers {
			c := &once.Spec.InitContainers[i]
			if c.Name == Container {
				before = false
			} else if mounts := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == socketVolume }); mounts == before {
				t.Fatalf("%s stands before the sidecar: %v; has its socket: %v", c.Name, before, mounts)
			}
		}
	}
}

// The group follows the user also in a sidecar of before, which had none or another.
func TestTheGroupIsMadeAnew(t *testing.T) {
	other := int64(7)
	for name, was := range map[string]*int64{"none": nil, "another": &other} {
		p := injected(t, settings(), plain())
		sidecarOf(t, p).SecurityContext.RunAsGroup = was
		p.Annotations[Prefix+"run-as-user"] = "1000"
		if c := sidecarOf(t, injected(t, settings(), p)).SecurityContext; c.RunAsGroup == nil || *c.RunAsGroup != 1000 || *c.RunAsUser != 1000 {
			t.Errorf("%s: the user is %d and the group %v", name, *c.RunAsUser, c.RunAsGroup)
		}
	}
}

// A pod that was written down and is created again, with other wishes or after an
// update, is as a new one would be.
func TestARestoredPodIsInjectedAnew(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 29))
	now := settings()
	now.Version, now.Image, now.LogLevel, now.RunAsUser, now.MetricsPort = "2.0.0", "registry.example/locksidecar@sha256:77", "warn", 70000, 0
	now.Configuration, now.Secrets, now.Env = "backends: {main: {url: \"etcd://e\"}}\n", []Secret{{"etcd", "etcd"}, {"ca", "ca"}}, nil
	now.ImagePullPolicy = corev1.PullAlways
	for range 100 {
		fresh := random(r)
		old := injected(t, settings(), fresh)
		wish(r, fresh)
		for key := range old.Annotations {
			if _, wished := fresh.Annotations[key]; !wished && key != StatusAnnotation && key != ConfigurationAnnotation {
				delete(old.Annotations, key)
			}
		}
		for key, value := range fresh.Annotations {
			old.Annotations[key] = value
		}
		want, got := injected(t, now, fresh), injected(t, now, old)
		// Of what the old configuration gave, variables and limits cannot be told
		// from what others added.
		c := sidecarOf(t, got)
		c.Env, c.Resources = sidecarOf(t, want).Env, sidecarOf(t, want).Resources
		if sidecarOf(t, old).ImagePullPolicy == corev1.PullAlways {
			c.ImagePullPolicy = sidecarOf(t, want).ImagePullPolicy // it may be the cluster that wants it
		}
		for _, p := range []*corev1.Pod{want, got} {
			slices.SortFunc(p.Spec.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
			for c := range containers(&p.Spec) {
				slices.SortFunc(c.VolumeMounts, func(a, b corev1.VolumeMount) int { return strings.Compare(a.MountPath, b.MountPath) })
				slices.SortFunc(c.Env, func(a, b corev1.EnvVar) int { return strings.Compare(a.Name, b.Name) })
			}
		}
		if a, b := text(t, want), text(t, got); a != b && !leftOut(fresh) {
			t.Fatalf("restored, it is\n%s\nand new\n%s", b, a)
		}
	}
}

// leftOut says whether a container that is left out had the variable by itself:
// then it cannot be told from what was injected, and goes.
func leftOut(p *corev1.Pod) bool {
	if p.Annotations[Prefix+"containers"] == "" {
		return false
	}
	for c := range containers(&p.Spec) {
		if c.Name != p.Annotations[Prefix+"containers"] && slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == EndpointVariable }) {
			return true
		}
	}
	return false
}
