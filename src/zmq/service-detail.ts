// ServiceDetail: JSON text for what the fixed fields of a TenantService cannot express. Pure.

import { invalid } from '#model/errors.ts'
import { FAMILIES, parseIp, type Ip } from '#model/ip.ts'
import { parseSelectorTerm, type Selector } from '#model/labels.ts'
import { asBackends, asSelect, MAX_BACKENDS, MAX_SELECT_TERMS, parseBackendText, type Backend } from '#model/service.ts'
import { parseFields, parseRequestId, text, type Parsers } from './detail.ts'

export type ServiceDetail = {
  /** One of each family at most, beside RequestIP. */
  readonly addresses?: readonly Ip[]
  readonly headless?: boolean
  readonly select?: Selector
  readonly backends?: readonly Backend[]
  readonly requestId?: string
}

const PARSERS: Parsers<ServiceDetail> = {
  addresses: (value, field) => listOf(value, field, FAMILIES.length).map(each => parseIp(text(each, field), field)),
  headless: (value, field) => {
    if (typeof value !== 'boolean') throw invalid(field, 'must be true or false')
    return value
  },
  select: (value, field) =>
    asSelect(
      listOf(value, field, MAX_SELECT_TERMS).map(each => parseSelectorTerm(text(each, field), field)),
      field
    ),
  backends: (value, field) =>
    asBackends(
      listOf(value, field, MAX_BACKENDS).map(each => parseBackendText(text(each, field), field)),
      field
    ),
  requestId: parseRequestId
}

/** Empty text means no fields. @throws ERR_INVALID naming the field, such as ServiceDetail.select */
export function parseServiceDetail(json: string): ServiceDetail {
  return parseFields(json, PARSERS, 'ServiceDetail')
}

function listOf(value: unknown, field: string, max: number): readonly unknown[] {
  if (Array.isArray(value) && value.length <= max) return value as readonly unknown[]
  throw invalid(field, `must be a list of ${max} at most`)
}
