import { findRegistration, type RegisterOptions, type ScriptUrl } from './register.js'

/** The registration of this page's worker, and the workers that it has had. */
export interface OwnWorkers {
  /** Rejects as {@link findRegistration} does. */
  readonly registration: Promise<ServiceWorkerRegistration>
  /** The registration, once it is found. */
  found(): ServiceWorkerRegistration | undefined
  /**
   * Is this one of them? A worker that failed to install counts: it may still send the reason.
   * Until the registration is found, every sender counts.
   */
  includes(source: MessageEventSource | null): boolean
}

export function createOwnWorkers(
  scriptUrl: ScriptUrl | undefined,
  options: RegisterOptions,
): OwnWorkers {
  const workers = new Set<MessageEventSource>()
  let found: ServiceWorkerRegistration | undefined

  const collect = () => {
    for (const which of ['active', 'waiting', 'installing'] as const) {
      const worker = found?.[which]
      if (worker) workers.add(worker)
    }
  }
  const registration = findRegistration(scriptUrl, options).then((registration) => {
    found = registration
    collect()
    registration.addEventListener('updatefound', collect)
    return registration
  })
  // The caller's `ready` reports the failure.
  registration.catch(() => {})

  return {
    registration,
    found: () => found,
    includes: (source) => source !== null && (!found || workers.has(source)),
  }
}
