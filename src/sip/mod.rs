//! The SIP edge: transports, transactions, and the way between the wire and `call`.
