// Parsers of arguments: those of src/model, with errors that name the flag.

import { statSync } from 'node:fs'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { familyOf, type Ip } from '#model/ip.ts'
import { MAX_TEXT } from '#model/fields.ts'
import { labelsOfPairs } from '#model/labels.ts'

/** A parser for commander whose errors name the flag. */
export function by<T>(flag: string, parse: (text: string, field: string) => T): (text: string) => T {
  return text => {
    try {
      return parse(text, flag)
    } catch (err) {
      const { message } = asVxmeshError(err)
      throw new VxmeshError('ERR_USAGE', message, { field: flag, cause: err })
    }
  }
}

/** Validates a text and returns it unchanged: the agent parses it again. */
export function checked(flag: string, parse: (text: string, field: string) => unknown): (text: string) => string {
  const check = by(flag, parse)
  return text => {
    check(text)
    return text
  }
}

/** Validates the values of an option that may be given once for each family, and returns them unchanged. */
export function onceAFamily(
  flag: string,
  parse: (text: string, field: string) => Ip
): (text: string, before?: readonly string[]) => readonly string[] {
  const check = by(flag, parse)
  return (text, before = []) => {
    const family = familyOf(check(text))
    if (before.some(other => familyOf(check(other)) === family))
      throw new VxmeshError('ERR_USAGE', `${flag}: may be given once for each family`, { field: flag })
    return [...before, text]
  }
}

/** Collects the pairs of an option that may be repeated; a key may be given once. */
export function pairs<Value>(
  flag: string,
  parse: (text: string, field: string) => readonly [key: string, value: Value]
): (text: string, before?: Readonly<Record<string, Value>>) => Readonly<Record<string, Value>> {
  const pair = by(flag, parse)
  return (text, before = {}) => by(flag, () => labelsOfPairs([...Object.entries(before), pair(text)], flag))(text)
}

/** Validates the values of an option that may be repeated, and returns them unchanged. */
export function repeated(
  flag: string,
  parse: (text: string, field: string) => unknown
): (text: string, before?: readonly string[]) => readonly string[] {
  const check = checked(flag, parse)
  return (text, before = []) => [...before, check(text)]
}

export function wholeNumber(min: number, max: number): (text: string, field: string) => number {
  return (text, field) => {
    const n = /^[0-9]{1,10}$/.test(text) ? Number(text) : NaN
    if (!(n >= min && n <= max)) {
      throw new VxmeshError('ERR_USAGE', `${field}: must be a whole number from ${min} to ${max}, got "${text}"`)
    }
    return n
  }
}

export function displayName(text: string, field: string): string {
  if (text.length <= MAX_TEXT) return text
  throw new VxmeshError('ERR_USAGE', `${field}: must be at most ${MAX_TEXT} characters`)
}

export function absolutePath(flag: string): (text: string) => string {
  return text => {
    if (text.startsWith('/') && !text.includes('\0')) return text
    throw new VxmeshError('ERR_USAGE', `${flag}: must be an absolute path, got ${JSON.stringify(text)}`, {
      field: flag
    })
  }
}

/** An absolute path, or the name of a namespace of `ip netns`. @throws ERR_NETNS if it does not exist */
export function netnsPath(text: string): string {
  const path = text.startsWith('/') ? text : `/run/netns/${text}`
  if (!text.startsWith('/') && (text.includes('/') || text === '')) {
    throw new VxmeshError('ERR_NETNS', `--netns: must be an absolute path or a name of ip netns, got "${text}"`, {
      field: 'netns'
    })
  }
  if (statSync(path, { throwIfNoEntry: false }) === undefined) {
    throw new VxmeshError('ERR_NETNS', `--netns: there is no namespace ${path}`, { field: 'netns' })
  }
  return path
}
