// Reads a file that an operator names, within bounds.

import { constants, type Stats } from 'node:fs'
import { open } from 'node:fs/promises'

/**
 * The text of a regular file. Neither a FIFO nor a device makes it wait.
 * @throws Error whose message says why: errno, not a regular file, or larger than `maxBytes`
 */
export async function readSmallFile(
  path: string,
  maxBytes: number
): Promise<{ readonly text: string; readonly stats: Stats }> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stats = await file.stat()
    if (!stats.isFile()) throw new Error(`${path} is not a regular file`)
    const bytes = Buffer.alloc(maxBytes + 1)
    let length = 0
    // Until its end, not until its size: a file of /proc has none.
    for (let read = 1; read > 0 && length <= maxBytes; length += read) {
      read = (await file.read(bytes, length, bytes.byteLength - length)).bytesRead
    }
    if (length > maxBytes) throw new Error(`${path} has more than ${maxBytes} bytes`)
    return { text: bytes.toString('utf8', 0, length), stats }
  } finally {
    await file.close()
  }
}
