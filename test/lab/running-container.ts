/** A container that a real runtime has made from the command line. */
export type RunningContainer = {
  /** What a command in it prints. @throws Error with its words unless it succeeds */
  readonly exec: (...command: readonly string[]) => Promise<string>
  /** Resolves when the runtime has ended and removed it, network and all. */
  readonly remove: () => Promise<void>
}
