// Reads the fields of a value that came from outside. Each function throws ERR_INVALID naming the field.

import { invalid } from './errors.ts'

export type Fields = Readonly<Record<string, unknown>>

/** Longest free text in a command: a container's display name, a version, a boot id, an idempotency key. */
export const MAX_TEXT = 256

export function asFields(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(what, 'must be an object')
  return value as Fields
}

export function text(f: Fields, key: string): string {
  const value = f[key]
  if (typeof value !== 'string' || value.length > MAX_TEXT) {
    throw invalid(key, `must be text of at most ${MAX_TEXT} characters`)
  }
  return value
}

export function wholeNumber(f: Fields, key: string): number {
  const n = f[key]
  if (typeof n !== 'number' || !Number.isSafeInteger(n) || n < 0) throw invalid(key, 'must be a whole number')
  // JSON has no -0.
  return n === 0 ? 0 : n
}

export function flag(f: Fields, key: string): boolean {
  const value = f[key]
  if (typeof value !== 'boolean') throw invalid(key, 'must be true or false')
  return value
}

/** The parsed field under its key; no key at all when the field is absent or null. */
export function optional<K extends string, T>(
  f: Fields,
  key: K,
  parse: (fields: Fields, key: string) => T
): Readonly<Partial<Record<K, T>>> {
  return (f[key] === undefined || f[key] === null ? {} : { [key]: parse(f, key) }) as Readonly<Partial<Record<K, T>>>
}
