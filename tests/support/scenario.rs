//! SIPp scenarios, put together from steps: what a test wants to say of a peer in its own lines.

use std::fmt::Write as _;

const VIA: &str = "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport";
const CONTACT: &str = "Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>";
const CALLER: &str = "From: \"SIPp\" <sip:sipp@[local_ip]:[local_port]>;tag=[pid]SIPp[call_number]";
const CALLEE_TAG: &str = ";tag=[pid]SIPpTag[call_number]";

/// An SDP body of one audio line: `sendrecv` and its like, and the payload types.
pub fn sdp(version: u32, formats: &str, direction: &str) -> String {
    format!(
        "v=0\no=sipp 53655765 {version} IN IP[media_ip_type] [media_ip]\ns=-\n\
         c=IN IP[media_ip_type] [media_ip]\nt=0 0\nm=audio [media_port] RTP/AVP {formats} 101\n\
         a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\na={direction}\n"
    )
}

/// µ-law, both ways.
pub fn pcmu() -> String {
    sdp(1, "0", "sendrecv")
}

/// What a SIPp does, step by step.
#[derive(Clone, Debug)]
pub struct Scenario {
    role: Role,
    steps: String,
    cseq: u32,
    contact: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Caller,
    Callee,
}

impl Scenario {
    /// One that calls `[service]` with this description and these further header lines.
    pub fn calls(offer: &str, headers: &str) -> Self {
        let (role, steps) = (Role::Caller, String::new());
        let this = Self { role, steps, cseq: 1, contact: CONTACT };
        let head = format!(
            "INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n{VIA}\n{CALLER}\n\
             To: <sip:[service]@[remote_ip]:[remote_port]>\nCall-ID: [call_id]\nCSeq: 1 INVITE\n\
             {CONTACT}\n"
        );
        let hops = if headers.contains("Max-Forwards") { "" } else { "Max-Forwards: 70\n" };
        this.message("retrans=\"500\"", &format!("{head}{hops}{headers}"), offer)
    }

    /// One that is called: begins when the INVITE is there.
    pub fn is_called() -> Self {
        let (role, steps) = (Role::Callee, String::new());
        let this = Self { role, steps, cseq: 0, contact: CONTACT };
        this.raw(
            "<recv request=\"INVITE\" rrs=\"true\"><action>\
             <ereg regexp=\".*\" search_in=\"hdr\" header=\"From:\" assign_to=\"caller\"/>\
             <ereg regexp=\".*\" search_in=\"hdr\" header=\"Via:\" assign_to=\"via\"/>\
             <ereg regexp=\".*\" search_in=\"hdr\" header=\"To:\" assign_to=\"to\"/>\
             </action></recv>\n",
        )
    }

    /// Names `[contact]` as its address from now on, to be given by [`super::Sipp::key`].
    pub fn reached_by_proxy(mut self) -> Self {
        self.contact = "Contact: <sip:sipp@[contact]>";
        self
    }

    /// Waits for a response; those in `before` may come first.
    pub fn hears(mut self, status: u16, before: &[u16]) -> Self {
        for other in before {
            let _ = writeln!(self.steps, "<recv response=\"{other}\" optional=\"true\"/>");
        }
        let routes = if status / 100 == 2 { " rrs=\"true\"" } else { "" };
        self.raw(&format!("<recv response=\"{status}\"{routes}/>\n"))
    }

    /// Everything so far with one text in place of another.
    pub fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.steps.contains(from), "{from}");
        self.steps = self.steps.replace(from, to);
        self
    }

    /// Waits for a request.
    pub fn hears_request(self, method: &str) -> Self {
        self.raw(&format!("<recv request=\"{method}\"/>\n"))
    }

    pub fn waits(self, milliseconds: u32) -> Self {
        self.raw(&format!("<pause milliseconds=\"{milliseconds}\"/>\n"))
    }

    /// Whatever SIPp's manual has.
    pub fn raw(mut self, xml: &str) -> Self {
        self.steps.push_str(xml);
        self
    }

    /// The caller's ACK of a 2xx.
    pub fn acknowledges(self) -> Self {
        let cseq = self.cseq;
        let head = self.in_dialog("ACK", cseq);
        self.message("", &head, "")
    }

    /// The same, where other requests have gone before it.
    pub fn acknowledges_number(self, cseq: u32) -> Self {
        let head = self.in_dialog("ACK", cseq);
        self.message("", &head, "")
    }

    /// Waits for a reliable provisional response, and says PRACK with this description.
    pub fn hears_reliably(self, status: u16, body: &str) -> Self {
        let this = self.raw(&format!(
            "<recv response=\"100\" optional=\"true\"/>\n<recv response=\"{status}\" rrs=\"true\">\
             <action><ereg regexp=\"[0-9]+\" search_in=\"hdr\" header=\"RSeq:\" \
             assign_to=\"rseq\"/></action></recv>\n"
        ));
        this.requests_with("PRACK", "RAck: [$rseq] 1 INVITE\n", body).hears(200, &[])
    }

    /// The same, with the answer to what the 2xx offered.
    pub fn acknowledges_with(self, answer: &str) -> Self {
        let head = self.in_dialog("ACK", self.cseq);
        self.message("", &head, answer)
    }

    /// The caller's ACK of a refusal.
    pub fn acknowledges_refusal(self) -> Self {
        let head = format!(
            "ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n[last_Via:]\n{CALLER}\n\
             To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]\nCall-ID: [call_id]\n\
             CSeq: 1 ACK\nMax-Forwards: 70\n"
        );
        self.message("", &head, "")
    }

    /// The caller's CANCEL, once something was heard.
    pub fn cancels(self) -> Self {
        let head = format!(
            "CANCEL sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n[last_Via:]\n{CALLER}\n\
             To: <sip:[service]@[remote_ip]:[remote_port]>\nCall-ID: [call_id]\nCSeq: 1 CANCEL\n\
             Max-Forwards: 70\n"
        );
        self.message("retrans=\"500\"", &head, "")
    }

    /// A request in the dialog: `BYE`, or `INVITE` with a body, or `INFO` with a type and a body.
    pub fn requests(self, method: &str, content_type: &str, body: &str) -> Self {
        let typed = format!("Content-Type: {content_type}\n");
        self.requests_with(method, if content_type.is_empty() { "" } else { &typed }, body)
    }

    /// The same with further header lines.
    pub fn requests_with(mut self, method: &str, headers: &str, body: &str) -> Self {
        self.cseq += 1;
        let head = self.in_dialog(method, self.cseq) + headers;
        self.message("retrans=\"500\"", &head, body)
    }

    /// A key by SIP INFO.
    pub fn presses(self, key: char) -> Self {
        let body = format!("Signal={key}\nDuration=160\n");
        self.requests("INFO", "application/dtmf-relay", &body).hears(200, &[])
    }

    /// A new description, answered and acknowledged.
    pub fn offers_again(self, body: &str) -> Self {
        self.requests("INVITE", "", body).hears(200, &[100]).acknowledges()
    }

    pub fn hangs_up(self) -> Self {
        self.requests("BYE", "", "").hears(200, &[])
    }

    /// The other side hangs up.
    pub fn waits_for_bye(self) -> Self {
        self.hears_request("BYE").answers_request(200, "")
    }

    /// The callee's response to the INVITE, with a body or without.
    pub fn answers(self, status: u16, body: &str) -> Self {
        self.answers_with(status, "", body)
    }

    /// The same with further header lines.
    pub fn answers_with(self, status: u16, headers: &str, body: &str) -> Self {
        self.answers_as(CALLEE_TAG, status, headers, body)
    }

    /// The same by one of several telephones that the INVITE has reached: `;tag=` and its tag.
    pub fn answers_as(self, tag: &str, status: u16, headers: &str, body: &str) -> Self {
        let retrans = if status >= 200 { "retrans=\"500\"" } else { "" };
        let tag = if status == 100 { "" } else { tag };
        // A redirection names others.
        let contact = match headers.contains("Contact:") {
            true => String::new(),
            false => format!("{}\n", self.contact),
        };
        let head = format!(
            "SIP/2.0 {status} Whatever\nVia:[$via]\n[last_From:]\nTo:[$to]{tag}\n\
             [last_Call-ID:]\nCSeq: 1 INVITE\n[last_Record-Route:]\n{contact}{headers}",
        );
        self.message(retrans, &head, body)
    }

    /// A response to the request that came last; in the dialog it belongs to.
    pub fn answers_request(self, status: u16, body: &str) -> Self {
        self.answers_request_with(status, "", body)
    }

    /// The same with further header lines.
    pub fn answers_request_with(self, status: u16, headers: &str, body: &str) -> Self {
        let contact = if body.is_empty() { String::new() } else { format!("{CONTACT}\n") };
        let head = format!(
            "SIP/2.0 {status} Whatever\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n\
             [last_CSeq:]\n{contact}{headers}"
        );
        let retrans = if body.is_empty() { "" } else { "retrans=\"500\"" };
        self.message(retrans, &head, body)
    }

    /// Rings, answers and takes the ACK.
    pub fn picks_up(self, body: &str) -> Self {
        self.answers(180, "").waits(100).answers(200, body).hears_request("ACK")
    }

    /// The caller's call up to its ACK.
    pub fn gets_answer(self) -> Self {
        self.hears(200, &[100, 180, 183]).acknowledges()
    }

    /// The whole scenario as SIPp reads it.
    pub fn xml(&self) -> String {
        let callee = self.role == Role::Callee;
        // SIPp wants every variable to be used.
        let uses = if callee { "<Reference variables=\"caller,via,to\"/>\n" } else { "" };
        let steps = &self.steps;
        format!("<?xml version=\"1.0\"?>\n<scenario name=\"test\">\n{steps}{uses}</scenario>\n")
    }

    fn in_dialog(&self, method: &str, cseq: u32) -> String {
        let (from, to) = match self.role {
            Role::Caller => {
                (CALLER, "To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]")
            }
            Role::Callee => ("From:[$to];tag=[pid]SIPpTag[call_number]", "To:[$caller]"),
        };
        let contact = if method == "INVITE" { format!("{CONTACT}\n") } else { String::new() };
        format!(
            "{method} [next_url] SIP/2.0\n{VIA}\n[routes]\n{from}\n{to}\nCall-ID: [call_id]\n\
             CSeq: {cseq} {method}\n{contact}Max-Forwards: 70\n"
        )
    }

    fn message(mut self, attributes: &str, head: &str, body: &str) -> Self {
        let typed = head.contains("Content-Type");
        let content_type =
            if body.is_empty() || typed { "" } else { "Content-Type: application/sdp\n" };
        let length = if body.is_empty() { "0" } else { "[len]" };
        let _ = write!(
            self.steps,
            "<send {attributes}><![CDATA[\n{head}{content_type}Content-Length: {length}\n\n{body}\
             ]]></send>\n"
        );
        self
    }
}
