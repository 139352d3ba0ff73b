// Labels of an endpoint, in the syntax of Kubernetes (concepts/overview/working-with-objects/labels), and selectors, which choose
// endpoints by them. All characters are ASCII, so lengths are bytes. Pure.

import { invalid } from './errors.ts'
import { quote } from './ids.ts'

/** By key, ascending; at most MAX_LABELS of them with MAX_LABEL_BYTES in all. */
export type Labels = Readonly<Record<string, string>>

/** What an update gives: only these are changed, and null removes a label. */
export type LabelChanges = Readonly<Record<string, string | null>>

/** Chooses the endpoints on which all of its terms hold; an empty one chooses all. */
export type Selector = readonly SelectorTerm[]

/** The endpoint has a label of this key; with `value`, it has that value. */
export type SelectorTerm = { readonly key: string; readonly value?: string }

/** Most labels of one endpoint. */
export const MAX_LABELS = 32
/** Most bytes of the keys and values of one endpoint's labels: 32 of usual size. The rest of a row takes about 500. */
export const MAX_LABEL_BYTES = 2_048
const MAX_PREFIX = 253
const MAX_NAME = 63
/** Of `prefix/name=value`. */
export const MAX_LABEL_TEXT = MAX_PREFIX + 1 + MAX_NAME + 1 + MAX_NAME

export const NO_LABELS: Labels = Object.freeze({})

const PREFIX = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?$/
const NAME_RULE = `${MAX_NAME} letters, digits, "-", "_" and ".", beginning and ending with a letter or digit`

/** Labels in canonical form: equal ones have equal forms in every snapshot and hash. @throws ERR_INVALID naming the field */
export function parseLabels(value: unknown, field = 'labels'): Labels {
  const labels = canonical(
    entriesOf(value, field).map(([key, text]) => [checkKey(key, field), checkValue(text, field)])
  )
  const why = whyTooMany(labels)
  if (why !== null) throw invalid(field, why)
  return labels
}

/** @throws ERR_INVALID naming the field */
export function parseLabelChanges(value: unknown, field = 'labels'): LabelChanges {
  const entries = entriesOf(value, field)
  const removed = entries.filter(([, text]) => text === null)
  if (removed.length > MAX_LABELS) throw invalid(field, `must remove at most ${MAX_LABELS} labels`)
  const set = parseLabels(Object.fromEntries(entries.filter(([, text]) => text !== null)), field)
  return canonical<string | null>([
    ...Object.entries(set),
    ...removed.map(([key]) => [checkKey(key, field), null] as const)
  ])
}

/** `app=web,tier=db`; empty text means none. @throws ERR_INVALID naming the field */
export function parseLabelText(text: string, field: string): Labels {
  if (text === '') return NO_LABELS
  return parseLabels(
    labelsOfPairs(
      text.split(',').map(pair => parseLabelPair(pair, field)),
      field
    ),
    field
  )
}

/** `app=web`. @throws ERR_INVALID naming the field */
export function parseLabelPair(text: string, field: string): readonly [key: string, value: string] {
  const { key, value } = parseSelectorTerm(text, field)
  if (value === undefined) throw invalid(field, `must be KEY=VALUE, got ${quote(text)}`)
  return [key, value]
}

/** @throws ERR_INVALID naming the field when a key is given twice */
export function labelsOfPairs<Value>(
  pairs: readonly (readonly [key: string, value: Value])[],
  field: string
): Readonly<Record<string, Value>> {
  const keys = new Set<string>()
  for (const [key] of pairs) {
    if (keys.has(key)) throw invalid(field, `${quote(key)} is given twice`)
    keys.add(key)
  }
  return Object.fromEntries(pairs)
}

/** `app=web`, or `app`. @throws ERR_INVALID naming the field */
export function parseSelectorTerm(text: string, field: string): SelectorTerm {
  const at = text.indexOf('=')
  if (at === -1) return { key: checkKey(text, field) }
  return { key: checkKey(text.slice(0, at), field), value: checkValue(text.slice(at + 1), field) }
}

/** As `parseSelectorTerm` reads it. */
export function formatTerm({ key, value }: SelectorTerm): string {
  return value === undefined ? key : `${key}=${value}`
}

/** `prefix/name`, or `name`. @throws ERR_INVALID naming the field */
export function checkKey(key: string, field: string): string {
  const slash = key.indexOf('/')
  const [prefix, name] = slash === -1 ? [null, key] : [key.slice(0, slash), key.slice(slash + 1)]
  if (prefix !== null && !(prefix.length <= MAX_PREFIX && PREFIX.test(prefix)))
    throw invalid(
      field,
      `the prefix of a key must be a DNS name of at most ${MAX_PREFIX} characters, got ${quote(key)}`
    )
  if (name.length > MAX_NAME || !NAME.test(name))
    throw invalid(field, `the name of a key must be 1 to ${NAME_RULE}, got ${quote(key)}`)
  return key
}

/** The labels after an update, in canonical form. They may be too many. */
export function changedLabels(labels: Labels, changes: LabelChanges): Labels {
  const entries = Object.entries({ ...labels, ...changes })
  return canonical(entries.filter((entry): entry is [string, string] => entry[1] !== null))
}

/** Why an endpoint cannot have these labels, each of which is valid; null if it can. */
export function whyTooMany(labels: Labels): string | null {
  const all = Object.entries(labels)
  if (all.length > MAX_LABELS) return `${all.length} labels, and ${MAX_LABELS} are the most`
  const bytes = all.reduce((sum, [key, value]) => sum + key.length + value.length, 0)
  return bytes <= MAX_LABEL_BYTES ? null : `keys and values have ${bytes} bytes, and ${MAX_LABEL_BYTES} are the most`
}

export function isEmpty(labels: LabelChanges): boolean {
  for (const _ in labels) return false
  return true
}

export function matches(selector: Selector, labels: Labels): boolean {
  return selector.every(({ key, value }) => {
    return Object.hasOwn(labels, key) && (value === undefined || labels[key] === value)
  })
}

/** `app=web`, by key. */
export function labelTexts(labels: Labels): readonly string[] {
  return Object.entries(labels).map(([key, value]) => `${key}=${value}`)
}

/** Of a label. @throws ERR_INVALID naming the field */
export function checkValue(value: unknown, field: string): string {
  if (value === '' || (typeof value === 'string' && value.length <= MAX_NAME && NAME.test(value))) return value
  throw invalid(field, `a value must be empty or 1 to ${NAME_RULE}, got ${quote(value)}`)
}

function entriesOf(value: unknown, field: string): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(field, 'must be an object')
  return Object.entries(value)
}

/** Engines enumerate keys that are whole numbers first, and the others as they were added: always in the same order. */
function canonical<Value>(entries: readonly (readonly [string, Value])[]): Readonly<Record<string, Value>> {
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)))
}
