declare module 'xsalsa20' {
  type Cipher = { update(input: Uint8Array): Uint8Array; finalize(): void }
  const XSalsa20: {
    (nonce: Uint8Array, key: Uint8Array): Cipher
    readonly NONCEBYTES: number
    readonly KEYBYTES: number
  }
  export = XSalsa20
}
