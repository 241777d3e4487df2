"""Signature Version 4 of the request in apis.rs, from the standard library alone (AWS General Reference, "Signing AWS
API requests"): python3 sigv4.py"""
import hashlib, hmac

sha = lambda b: hashlib.sha256(b).hexdigest()
mac = lambda k, m: hmac.new(k, m.encode(), hashlib.sha256).digest()
secret, region, service = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "bedrock"
date, stamp, body = "20150830", "20150830T123600Z", b"{}"
# The path is escaped in the address and once more in the canonical request.
headers = {"content-type": "application/json", "host": "example.com", "x-amz-date": stamp}
signed = ";".join(headers)
canonical = "\n".join(
    ["POST", "/model/a%253Ab/converse", "", *(f"{k}:{v}" for k, v in headers.items()), "", signed, sha(body)]
)
scope = f"{date}/{region}/{service}/aws4_request"
to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, sha(canonical.encode())])
key = mac(mac(mac(mac(("AWS4" + secret).encode(), date), region), service), "aws4_request")
print(hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest())
