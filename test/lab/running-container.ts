/** A container that a real runtime started from its command line. */
export type RunningContainer = {
  /** Runs a command in it. @returns its output. @throws Error with its output unless it succeeds */
  readonly exec: (...command: readonly string[]) => Promise<string>
  /** Resolves once the runtime has stopped and removed it with its network. */
  readonly remove: () => Promise<void>
}
