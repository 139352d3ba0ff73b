// The stream cipher of libp2p's private networks (xsalsa20 1.2.0, WebAssembly) keeps all connections in one memory of
// 640 KiB and takes every growth of it badly: the views of all other connections are then empty, each of their writes
// grows it once more, and after a thousand writes the process dies of it. So it is made large enough before there is any
// connection: 16 MiB, when no write of ours is over 4 MiB and a connection keeps 128 bytes for good.

import XSalsa20 from 'xsalsa20'

const BYTES = 16 * 1024 * 1024

let wide = false

/** To be called before the first connection; a second call does nothing. */
export function widenCipherMemory(): void {
  if (wide) return
  wide = true
  const cipher = XSalsa20(new Uint8Array(XSalsa20.NONCEBYTES), new Uint8Array(XSalsa20.KEYBYTES))
  cipher.update(new Uint8Array(BYTES))
  cipher.finalize()
}
