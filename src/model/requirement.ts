// The selectors of policies: those of labels.ts, and terms that an endpoint must not fulfil, as Kubernetes' NetworkPolicy has
// them (NotIn, DoesNotExist). A set of values (In) is several peers. Pure.

import { invalid } from './errors.ts'
import { asFields } from './fields.ts'
import { quote } from './ids.ts'
import { checkKey, matches, parseSelectorTerm, type Labels, type SelectorTerm } from './labels.ts'

/** With `not`, the endpoint has no label of this key; with `value` as well, it has none, or one of another value. */
export type Requirement = SelectorTerm & { readonly not?: true }

/** Met by an endpoint that meets each; without any, by all. */
export type Requirements = readonly Requirement[]

/** Most of one selector. */
export const MAX_REQUIREMENTS = 16

/** Stands for a selector without requirements. No label has it. */
const ALL = '*'
/** Between requirements. A comma is between the parts of a rule. */
const AND = '+'

/** The form that commands have. @throws ERR_INVALID naming the field */
export function parseRequirements(value: unknown, field: string): Requirements {
  if (!Array.isArray(value)) throw invalid(field, 'must be a list of requirements')
  return withinBounds(
    value.map((each: unknown) => parseRequirement(each, field)),
    field
  )
}

/** `tier=app+canary`, `tier!=app`, `!canary`; `*` chooses all. @throws ERR_INVALID naming the field */
export function parseRequirementsText(text: string, field: string): Requirements {
  if (text === ALL) return []
  return withinBounds(
    text.split(AND).map(each => parseRequirementText(each, field)),
    field
  )
}

/** @throws ERR_INVALID naming the field */
export function parseRequirementText(text: string, field: string): Requirement {
  if (text.startsWith('!')) {
    const term = parseSelectorTerm(text.slice(1), field)
    if (term.value !== undefined) throw invalid(field, `must be !KEY or KEY!=VALUE, got ${quote(text)}`)
    return { ...term, not: true }
  }
  const at = text.indexOf('!=')
  if (at === -1 || at > text.indexOf('=')) return parseSelectorTerm(text, field)
  return { ...parseSelectorTerm(`${text.slice(0, at)}=${text.slice(at + 2)}`, field), not: true }
}

/** The text that `parseRequirementsText` reads. */
export function formatRequirements(requirements: Requirements): string {
  return requirements.length === 0 ? ALL : requirements.map(formatRequirement).join(AND)
}

export function formatRequirement({ key, value, not }: Requirement): string {
  if (value === undefined) return not === true ? `!${key}` : key
  return `${key}${not === true ? '!=' : '='}${value}`
}

export function meets(labels: Labels, requirements: Requirements): boolean {
  return requirements.every(each => matches([each], labels) !== (each.not === true))
}

function parseRequirement(value: unknown, field: string): Requirement {
  const { key, value: wanted, not } = asFields(value, field)
  if (typeof key !== 'string') throw invalid(field, 'a requirement must have a key')
  if (wanted !== undefined && typeof wanted !== 'string')
    throw invalid(field, 'the value of a requirement must be text')
  if (not !== undefined && not !== true) throw invalid(field, '"not" must be true or absent')
  const checked = checkKey(key, field)
  const term = parseSelectorTerm(wanted === undefined ? checked : `${checked}=${wanted}`, field)
  return not === true ? { ...term, not } : term
}

function withinBounds(requirements: Requirements, field: string): Requirements {
  if (requirements.length <= MAX_REQUIREMENTS) return requirements
  throw invalid(field, `${requirements.length} requirements, and ${MAX_REQUIREMENTS} are the most`)
}
