// Validates rows and remembered answers from a snapshot, which another host may have written. A row is validated by the
// parser of the command that creates it (model/parse-request.ts), so that the rules exist once.

import type { CommandKind, CommandOf, Outcome, Result } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { invalid, isErrorCode, type ErrorBody } from '#model/errors.ts'
import type { Host } from '#model/host.ts'
import { asFields, flag, optional, wholeNumber, type Fields } from '#model/fields.ts'
import { parseVni } from '#model/ids.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Network } from '#model/network.ts'
import type { Policy } from '#model/policy.ts'
import { whyUnfit, type Service } from '#model/service.ts'
import { parseCommand } from '#model/parse-request.ts'
import { endpointRow, networkRow, policyRow, serviceRow } from './rows.ts'

/** @throws ERR_INVALID naming the field */
export function parseNetworkRow(value: unknown): Network {
  const command = as('network-create', value)
  const { vni, gateway } = command
  if (vni === undefined || gateway === undefined) throw invalid('network', 'lacks its VNI or gateway')
  const row = networkRow(command, { vni, gateway })
  const { wasIpv6 } = optional(fieldsOf(value), 'wasIpv6', flag)
  return wasIpv6 === true ? { ...row, wasIpv6 } : row
}

/** @throws ERR_INVALID naming the field */
export function parseEndpointRow(value: unknown): Endpoint {
  const command = as('endpoint-attach', value)
  const { address, mac } = command
  const vni = parseVni(Number(fieldsOf(value)['vni']))
  if (address === undefined || mac === undefined) throw invalid('endpoint', 'lacks its address or MAC')
  return endpointRow(command, { ...command, vni, address, mac })
}

/** @throws ERR_INVALID naming the field */
export function parseHostRow(value: unknown): Host {
  return as('host-register', { host: value }).host
}

/** @throws ERR_INVALID naming the field */
export function parseNamespaceRow(value: unknown): Namespace {
  const { name, ...facts } = fieldsOf(value)
  const { namespace, network, grants } = as('namespace-map', { ...facts, namespace: name })
  return { name: namespace, network, grants }
}

/** @throws ERR_INVALID naming the field */
export function parseServiceRow(value: unknown): Service {
  const { addresses, ...facts } = fieldsOf(value)
  const headless = Array.isArray(addresses) && addresses.length === 0
  const command = as('service-create', { ...facts, headless, ...(headless ? {} : { addresses }) })
  if (!headless && command.addresses === undefined) throw invalid('service', 'lacks its addresses')
  const row = serviceRow(command, { network: command.network, addresses: command.addresses ?? [] })
  const unfit = whyUnfit(row)
  if (unfit !== null) throw invalid(unfit.field, unfit.why)
  return row
}

/** @throws ERR_INVALID naming the field */
export function parsePolicyRow(value: unknown): Policy {
  const fields = fieldsOf(value)
  if (fields['closes'] === undefined) throw invalid('closes', 'is missing')
  return policyRow(as('policy-create', fields))
}

/** @throws ERR_INVALID naming the field */
export function parseOutcome(value: unknown): Outcome {
  const { ok, result, error } = fieldsOf(value)
  if (ok === true) return { ok, result: parseResult(fieldsOf(result)) }
  if (ok === false) return { ok, error: parseError(fieldsOf(error)) }
  throw invalid('outcome', 'must be ok or not')
}

function parseResult(f: Fields): Result {
  const kind = f['kind'] as Result['kind']
  switch (kind) {
    case 'session':
      return { kind }
    case 'network':
      return { kind, network: parseNetworkRow(f['network']) }
    case 'endpoint':
      return { kind, endpoint: parseEndpointRow(f['endpoint']), created: flag(f, 'created') }
    case 'endpoint-released':
      return { kind, endpoint: parseEndpointRow(f['endpoint']) }
    case 'host':
      return { kind, host: parseHostRow(f['host']) }
    case 'host-removed':
      return { kind, host: parseHostRow(f['host']), released: wholeNumber(f, 'released') }
    case 'namespace':
      return { kind, namespace: parseNamespaceRow(f['namespace']) }
    case 'service':
      return { kind, service: parseServiceRow(f['service']), created: flag(f, 'created') }
    case 'policy':
      return { kind, policy: parsePolicyRow(f['policy']), created: flag(f, 'created') }
    default:
      throw invalid('kind', 'is not a result that this version knows')
  }
}

function parseError({ code, message, field }: Fields): ErrorBody {
  if (typeof code !== 'string' || !isErrorCode(code) || typeof message !== 'string') {
    throw invalid('error', 'must have a known code and a message')
  }
  if (field === undefined) return { code, message }
  if (typeof field !== 'string') throw invalid('error', 'must have a text as its field')
  return { code, message, field }
}

function as<K extends CommandKind>(kind: K, value: unknown): CommandOf<K> {
  return parseCommand({ ...fieldsOf(value), kind }) as CommandOf<K>
}

function fieldsOf(value: unknown): Fields {
  return asFields(value, 'snapshot')
}
