// Writes and reads netlink structs and attributes. Integers are little-endian, the byte order of every supported host,
// except those that the kernel defines in network order (addresses, UDP ports). Readers never read past their buffer. Pure.

import { isIpv4, type Family, type Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { bytesOfIpv6, ipv6OfBytes } from '#model/ipv6.ts'
import { macAt, type Mac } from '#model/mac.ts'
import { AF_INET, AF_INET6 } from './constants.ts'

/** A request without its header (platform/netlink-frame.ts writes that). */
export type Message = { readonly type: number; readonly flags: number; readonly body: Uint8Array }

const NLA_F_NESTED = 0x8000
const NLA_TYPE_MASK = 0x3fff

/** Initial capacity. Most messages fit: an FDB entry takes 40 bytes. */
const FIRST_BYTES = 64

/**
 * Builds a message: a fixed struct, then attributes. A pass may build a hundred thousand of them, so bytes are written by
 * hand into pooled memory: a DataView for each would cost more than the kernel's own work.
 */
export class Writer {
  #bytes: Uint8Array = Buffer.allocUnsafe(FIRST_BYTES)
  #length = 0

  u8(value: number): this {
    // Reserve first: it may replace the buffer.
    const offset = this.#reserve(1)
    this.#bytes[offset] = value
    return this
  }

  u16(value: number): this {
    this.#putU16(this.#reserve(2), value)
    return this
  }

  u32(value: number): this {
    this.#putU32(this.#reserve(4), value)
    return this
  }

  attributeU8(type: number, value: number): this {
    const offset = this.#attribute(type, 1)
    this.#bytes[offset] = value
    return this
  }

  attributeU32(type: number, value: number): this {
    this.#putU32(this.#attribute(type, 4), value)
    return this
  }

  /** In network byte order. */
  attributeU16Be(type: number, value: number): this {
    const offset = this.#attribute(type, 2)
    this.#bytes[offset] = value >>> 8
    this.#bytes[offset + 1] = value
    return this
  }

  attributeIpv4(type: number, address: Ipv4): this {
    const offset = this.#attribute(type, 4)
    for (let i = 0; i < 4; i++) this.#bytes[offset + i] = address >>> (24 - 8 * i)
    return this
  }

  attributeIp(type: number, address: Ip): this {
    return isIpv4(address) ? this.attributeIpv4(type, address) : this.attribute(type, bytesOfIpv6(address))
  }

  attributeMac(type: number, mac: Mac): this {
    const offset = this.#attribute(type, 6)
    for (let i = 0; i < 6; i++) {
      this.#bytes[offset + i] = (hexDigit(mac.charCodeAt(i * 3)) << 4) | hexDigit(mac.charCodeAt(i * 3 + 1))
    }
    return this
  }

  /** NUL-terminated. */
  attributeText(type: number, text: string): this {
    return this.attribute(type, new TextEncoder().encode(`${text}\0`))
  }

  attribute(type: number, value: Uint8Array): this {
    const offset = this.#attribute(type, value.length)
    this.#bytes.set(value, offset)
    return this
  }

  nested(type: number, write: (writer: this) => void): this {
    const start = this.#reserve(4)
    write(this)
    this.#putU16(start, this.#length - start)
    this.#putU16(start + 2, type | NLA_F_NESTED)
    return this
  }

  /** Finishes the message. The writer must not be used afterwards: the body shares its memory. */
  message(type: number, flags: number): Message {
    return { type, flags, body: this.#bytes.subarray(0, this.#length) }
  }

  /** Writes the header and the padding of an attribute; returns the offset of its value. */
  #attribute(type: number, length: number): number {
    const padded = align4(length)
    const offset = this.#reserve(4 + padded)
    this.#putU16(offset, 4 + length)
    this.#putU16(offset + 2, type)
    for (let i = length; i < padded; i++) this.#bytes[offset + 4 + i] = 0
    return offset + 4
  }

  #putU16(offset: number, value: number): void {
    this.#bytes[offset] = value
    this.#bytes[offset + 1] = value >>> 8
  }

  #putU32(offset: number, value: number): void {
    for (let i = 0; i < 4; i++) this.#bytes[offset + i] = value >>> (8 * i)
  }

  #reserve(length: number): number {
    const offset = this.#length
    const end = offset + length
    if (end > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(end, this.#bytes.length * 2))
      larger.set(this.#bytes.subarray(0, offset))
      this.#bytes = larger
    }
    this.#length = end
    return offset
  }
}

/** The value of a hex digit by its character code. The branded MAC guarantees that it is one. */
function hexDigit(code: number): number {
  return code <= 0x39 ? code - 0x30 : (code | 0x20) - 0x57
}

/** Visits each attribute from `offset` on. Stops at the first one whose length exceeds the buffer: the rest is unreadable. */
export function eachAttribute(
  bytes: Uint8Array,
  offset: number,
  visit: (type: number, value: Uint8Array) => void
): void {
  for (let at = offset; ;) {
    const length = attributeLength(bytes, at)
    if (length === 0) return
    visit(attributeType(bytes, at), bytes.subarray(at + 4, at + length))
    at += align4(length)
  }
}

/** Of the attribute there, its header included; 0 at the end, or when it exceeds the buffer: the rest is unreadable. */
export function attributeLength(bytes: Uint8Array, at: number): number {
  if (at + 4 > bytes.length) return 0
  const length = u16At(bytes, at)
  return length < 4 || at + length > bytes.length ? 0 : length
}

/** Of the attribute there, without flags. */
export function attributeType(bytes: Uint8Array, at: number): number {
  return u16At(bytes, at + 2) & NLA_TYPE_MASK
}

// The readers by offset make no object: dumps have tens of thousands of messages.

export function u16At(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
}

export function u32At(bytes: Uint8Array, at: number): number {
  return (u16At(bytes, at) | (u16At(bytes, at + 2) << 16)) >>> 0
}

export function ipv4At(bytes: Uint8Array, at: number): Ipv4 {
  const octet = (i: number): number => bytes[at + i] ?? 0
  return (((octet(0) << 24) | (octet(1) << 16) | (octet(2) << 8) | octet(3)) >>> 0) as Ipv4
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** The attributes by type; the last one wins when a type repeats. */
export function attributesOf(bytes: Uint8Array, offset = 0): ReadonlyMap<number, Uint8Array> {
  const found = new Map<number, Uint8Array>()
  eachAttribute(bytes, offset, (type, value) => found.set(type, value))
  return found
}

// The readers return null for a value that is too short: the caller decides what a missing setting means.

export function readU8(value: Uint8Array): number | null {
  return value[0] ?? null
}

export function readU32(value: Uint8Array): number | null {
  return value.length < 4 ? null : u32At(value, 0)
}

export function readU16Be(value: Uint8Array): number | null {
  return value.length < 2 ? null : viewOf(value).getUint16(0, false)
}

export function readIpv4(value: Uint8Array): Ipv4 | null {
  return value.length === 4 ? ipv4At(value, 0) : null
}

/** Null unless it is as long as an address of either family. */
export function readIp(value: Uint8Array): Ip | null {
  return value.length === 16 ? ipv6OfBytes(value) : readIpv4(value)
}

/** The number by which the kernel knows a family. */
export function afOf(family: Family): number {
  return family === 'ipv4' ? AF_INET : AF_INET6
}

/** Accepts any six bytes, including multicast and the zero address of flood entries: the kernel may hold either. */
export function readMac(value: Uint8Array): Mac | null {
  return value.length === 6 ? macAt(value, 0) : null
}

export function readText(value: Uint8Array): string {
  const end = value.indexOf(0)
  let text = ''
  for (const byte of end === -1 ? value : value.subarray(0, end)) {
    // Fast path for ASCII, which covers device names and our marks.
    if (byte >= 0x80) return new TextDecoder().decode(end === -1 ? value : value.subarray(0, end))
    text += String.fromCharCode(byte)
  }
  return text
}

export function align4(length: number): number {
  return (length + 3) & ~3
}
