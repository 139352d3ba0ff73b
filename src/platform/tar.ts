// Builds a tar archive in memory (POSIX.1-2001 ustar): regular files with short names and mode 0600. Pure.

const BLOCK = 512
const NAME_BYTES = 100

export type TarFile = { readonly name: string; readonly data: Uint8Array }

/** @param p.seconds modification time of all files, since 1970 @throws Error for a name of over 100 bytes */
export function tar(files: readonly TarFile[], p: { readonly seconds: number }): Buffer {
  const parts: Uint8Array[] = []
  for (const { name, data } of files) {
    parts.push(
      header(name, data.byteLength, p.seconds),
      data,
      Buffer.alloc((BLOCK - (data.byteLength % BLOCK)) % BLOCK)
    )
  }
  // Two zero blocks mark the end.
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)])
}

function header(name: string, size: number, seconds: number): Buffer {
  if (Buffer.byteLength(name) > NAME_BYTES) throw new Error(`a name of over ${NAME_BYTES} bytes in an archive: ${name}`)
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, at: number, digits: number): number =>
    block.write(value.toString(8).padStart(digits, '0'), at)
  block.write(name, 0)
  octal(0o600, 100, 7)
  octal(0, 108, 7)
  octal(0, 116, 7)
  octal(size, 124, 11)
  octal(Math.floor(seconds), 136, 11)
  block.write('0', 156)
  block.write('ustar\u000000', 257)
  // The checksum is the sum of all bytes, with spaces in place of the checksum itself.
  block.fill(' ', 148, 156)
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    6
  )
  block[154] = 0
  return block
}
