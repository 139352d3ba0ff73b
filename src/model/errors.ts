// The catalogue of operating errors. Each interface (CLI, HTTP, CNI, ZeroMQ) derives its own error format from it.
// Broken invariants are not in it: they are plain Errors and end the agent.

/** Process exit codes of the CLI (contract 6.3). */
export type ExitCode = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7

type CodeFacts = { readonly http: number; readonly exit: ExitCode }

/** Every code with its HTTP status and exit code. Codes are stable; docs/errors.md explains each. */
export const ERROR_CODES = {
  ERR_INVALID: { http: 400, exit: 2 },
  ERR_CONFIG: { http: 400, exit: 2 },
  ERR_USAGE: { http: 400, exit: 2 },
  ERR_NETNS: { http: 400, exit: 2 },
  ERR_NETWORK_NOT_FOUND: { http: 404, exit: 4 },
  ERR_ENDPOINT_NOT_FOUND: { http: 404, exit: 4 },
  ERR_HOST_NOT_FOUND: { http: 404, exit: 4 },
  ERR_NAMESPACE_NOT_FOUND: { http: 404, exit: 4 },
  ERR_POLICY_NOT_FOUND: { http: 404, exit: 4 },
  ERR_SERVICE_NOT_FOUND: { http: 404, exit: 4 },
  ERR_KEY_NOT_FOUND: { http: 404, exit: 4 },
  ERR_ROUTE_NOT_FOUND: { http: 404, exit: 4 },
  ERR_NETWORK_EXISTS: { http: 409, exit: 5 },
  ERR_NETWORK_IN_USE: { http: 409, exit: 5 },
  ERR_ENDPOINT_EXISTS: { http: 409, exit: 5 },
  ERR_HOST_EXISTS: { http: 409, exit: 5 },
  ERR_POLICY_EXISTS: { http: 409, exit: 5 },
  ERR_SERVICE_EXISTS: { http: 409, exit: 5 },
  ERR_VNI_IN_USE: { http: 409, exit: 5 },
  ERR_ADDRESS_IN_USE: { http: 409, exit: 5 },
  ERR_MAC_IN_USE: { http: 409, exit: 5 },
  ERR_IFNAME_IN_USE: { http: 409, exit: 5 },
  ERR_NOT_GRANTED: { http: 403, exit: 1 },
  ERR_NOT_ALLOWED: { http: 403, exit: 1 },
  ERR_LIMIT_REACHED: { http: 507, exit: 1 },
  ERR_VNI_EXHAUSTED: { http: 507, exit: 1 },
  ERR_SUBNET_EXHAUSTED: { http: 507, exit: 1 },
  ERR_HOST_NOT_REGISTERED: { http: 503, exit: 1 },
  ERR_SESSION_EXPIRED: { http: 503, exit: 1 },
  ERR_NO_QUORUM: { http: 503, exit: 6 },
  ERR_NOT_LEADER: { http: 503, exit: 6 },
  ERR_AGENT_UNREACHABLE: { http: 503, exit: 3 },
  ERR_BUSY: { http: 503, exit: 1 },
  ERR_JOIN_FAILED: { http: 502, exit: 1 },
  ERR_SERF: { http: 502, exit: 1 },
  ERR_PEER: { http: 502, exit: 1 },
  ERR_KERNEL: { http: 500, exit: 1 },
  ERR_UNSUPPORTED: { http: 501, exit: 1 },
  ERR_DELAY_UNSUPPORTED: { http: 501, exit: 1 },
  ERR_STORAGE: { http: 500, exit: 1 },
  ERR_TIMEOUT: { http: 504, exit: 1 },
  ERR_TOO_LARGE: { http: 413, exit: 2 },
  ERR_CHECK_FAILED: { http: 500, exit: 7 },
  ERR_INTERNAL: { http: 500, exit: 1 }
} as const satisfies Record<string, CodeFacts>

export type ErrorCode = keyof typeof ERROR_CODES

export type ErrorOptions = {
  /** The invalid input field, by its name in the API (`subnet`, `containerId`). */
  readonly field?: string
  readonly cause?: unknown
  /** For the log; never secrets. */
  readonly context?: Readonly<Record<string, string | number | boolean>>
}

/** The serialized form of an error across processes and hosts. */
export type ErrorBody = { readonly code: ErrorCode; readonly message: string; readonly field?: string }

/** An operating error: a failure that a correct program must expect. For invalid input it names the field. */
export class VxmeshError extends Error {
  override readonly name = 'VxmeshError'
  readonly code: ErrorCode
  readonly field: string | undefined
  readonly context: Readonly<Record<string, string | number | boolean>>

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.field = options.field
    this.context = options.context ?? {}
  }

  /** The wire form: code, message and field; never the cause or the stack. */
  toBody(): ErrorBody {
    return this.field === undefined
      ? { code: this.code, message: this.message }
      : { code: this.code, message: this.message, field: this.field }
  }

  static fromBody(body: ErrorBody): VxmeshError {
    return new VxmeshError(body.code, body.message, body.field === undefined ? {} : { field: body.field })
  }
}

/** The error for an invalid value of an input field. */
export function invalid(field: string, message: string): VxmeshError {
  return new VxmeshError('ERR_INVALID', `${field}: ${message}`, { field })
}

/** Whether the text is an error code of ours. For error bodies from outside. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_CODES, text)
}

/** Any thrown value as a VxmeshError; anything else becomes ERR_INTERNAL with the original as its cause. */
export function asVxmeshError(thrown: unknown): VxmeshError {
  if (thrown instanceof VxmeshError) return thrown
  return new VxmeshError('ERR_INTERNAL', messageOf(thrown), { cause: thrown })
}

function messageOf(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message
  try {
    return String(thrown)
  } catch {
    return 'a thrown value that is not an error'
  }
}
