package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// decode reads a review. What is in it is whatever the sender chose.
func decode(raw []byte) (*admissionv1.AdmissionRequest, error) {
	review := &admissionv1.AdmissionReview{}
	if err := json.Unmarshal(raw, review); err != nil {
		return nil, err
	}
	want := admissionv1.SchemeGroupVersion.String()
	switch {
	case review.APIVersion != want || review.Kind != "AdmissionReview":
		return nil, fmt.Errorf("want an AdmissionReview of %s", want)
	case review.Request == nil || review.Request.UID == "":
		return nil, errors.New("the review has no request")
	}
	return review.Request, nil
}

// asks says whether a request is about a pod that is being made.
func asks(r *admissionv1.AdmissionRequest) bool {
	return r.Operation == admissionv1.Create && r.SubResource == "" && r.Resource == metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
}

// podOf is the pod of a request.
func podOf(r *admissionv1.AdmissionRequest) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if len(r.Object.Raw) == 0 {
		return nil, errors.New("the request has no object")
	}
	if err := json.Unmarshal(r.Object.Raw, pod); err != nil {
		return nil, fmt.Errorf("the pod: %w", err)
	}
	return pod, nil
}

// answer is the review that goes back.
func answer(response *admissionv1.AdmissionResponse) *admissionv1.AdmissionReview {
	return &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: response,
	}
}

// deny refuses with a message.
func deny(code int32, message string) *admissionv1.AdmissionResponse {
	reason := metav1.StatusReasonForbidden
	switch code {
	case http.StatusInternalServerError:
		reason = metav1.StatusReasonInternalError
	case http.StatusServiceUnavailable:
		reason = metav1.StatusReasonServiceUnavailable
	}
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: "locksidecar: " + message}}
}
