// Package admin serves operators over TCP: the API's reading calls as HTTP/JSON,
// and a page that shows them.
//
// It guarantees that nothing but the page itself, which has no data, is answered
// without a token or a certificate; that nothing is changed unless that was
// configured; and that another site's page in an operator's browser gets nothing:
// a request must name a host of the listener's, must not come from another origin,
// and must have its token in a header, which no form and no link can send.
//
// It does not limit who tries: a token must be too long to guess.
package admin
