import { Workbox } from 'workbox-window'
import { absoluteUrl } from './absolute-url.js'
import { TokenError } from './shared/errors.js'
import { withTimeLimit } from './time-limit.js'

/** How the app's worker is registered; as in `navigator.serviceWorker.register`. */
export interface RegisterOptions {
  /** Path or URL below which pages are controlled; default: the folder of the script. */
  scope?: string
  /** `module` for a worker script with imports (not in Firefox before 147). */
  type?: 'classic' | 'module'
  /** Which token worker, where the worker script creates more than one: its `authPath`. */
  authPath?: string
}

/** URL of the worker script: a string, a `URL`, or the app's own `TrustedScriptURL`. */
export type ScriptUrl = string | { toJSON(): string }

/** Missing in TypeScript's DOM types. @see https://www.w3.org/TR/trusted-types/ */
interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { createScriptURL(input: string): string },
  ): { createScriptURL(input: string): ScriptUrl }
}

/** Key under which all copies of tokenward in a page keep the URL that it trusts. */
const trustedUrl: unique symbol = Symbol.for('tokenward')

/** ms to wait for the app to register its worker. */
const adoptLimit = 10_000
/** ms between two looks, since no event announces a registration. */
const adoptInterval = 100
/** ms after which to look for a worker that has replaced this one. */
const replaceLimit = 200
/** ms in which a worker takes control of this page after the request to. */
const claimLimit = 5_000

/** Throws if this page cannot have a service worker. */
const checkSupport = (): void => {
  if ('serviceWorker' in navigator) return
  if (globalThis.isSecureContext === false) {
    throw new TokenError(
      'insecure_context',
      'Service workers need https (or localhost): open the app there.',
    )
  }
  throw new TokenError(
    'unsupported',
    'This browser offers no service workers here (private window, WebView or an old version).',
  )
}

/**
 * The URL as `register()` takes it under Trusted Types. The policy returns this one URL for every
 * input, and no other code holds it. A page may create it only once, so the page keeps its result
 * for the next manager and the next copy of the library.
 */
const trust = (url: ScriptUrl): ScriptUrl => {
  if (typeof url === 'object' && !(url instanceof URL)) return url
  const { href, origin } = new URL(url, document.baseURI)
  const page = globalThis as unknown as { trustedTypes: TrustedTypes; [trustedUrl]?: ScriptUrl }
  const isTrusted = () => String(page[trustedUrl]) === href
  try {
    if (origin === location.origin && !isTrusted()) {
      const policy = page.trustedTypes.createPolicy('tokenward', { createScriptURL: () => href })
      page[trustedUrl] = policy.createScriptURL('')
    }
  } catch {
    // No Trusted Types here. Or the page forbids the policy, and may still accept a plain string.
  }
  return (isTrusted() && page[trustedUrl]) || url
}

/** Registers the worker script, or resolves with the existing registration. */
const register = async (url: ScriptUrl, options: RegisterOptions) => {
  try {
    // Never from the HTTP cache: a security fix must reach users at once.
    const workbox = new Workbox(trust(url) as string, { ...options, updateViaCache: 'none' })
    // Undefined only without service workers: see checkSupport.
    return (await workbox.register({ immediate: true })) as ServiceWorkerRegistration
  } catch (cause) {
    throw new TokenError(
      'worker_script_failed',
      `The browser did not accept the worker script ${url}: ${cause} Check that this URL gives ` +
        'JavaScript (not the app shell), that its scope lies at or below its folder, and that ' +
        'the Content-Security-Policy allows it: in worker-src and, with Trusted Types, by ' +
        'the policy tokenward in trusted-types.',
      cause,
    )
  }
}

/**
 * Waits for the registration that the app's own tooling makes for this page. With `scope`, only
 * that one counts: until a nested worker is active, the browser finds an outer one instead.
 */
const adopt = async (scope: string | undefined): Promise<ServiceWorkerRegistration> => {
  const url = scope === undefined ? undefined : absoluteUrl(scope)
  for (let waited = 0; waited <= adoptLimit; waited += adoptInterval) {
    const found = await navigator.serviceWorker.getRegistration(url)
    const isWanted = url === undefined || found?.scope === url
    // While the browser fetches the script, the registration has no worker.
    if (isWanted && (found?.active ?? found?.waiting ?? found?.installing)) return found
    await new Promise((resolve) => setTimeout(resolve, adoptInterval))
  }
  throw new TokenError(
    'no_registration',
    "No service worker is registered for this page. Call createTokenManager('/sw.js'), or " +
      'register your own worker (in development too).',
  )
}

/** Registers the worker script, or adopts the app's registration. */
export const findRegistration = async (
  url: ScriptUrl | undefined,
  options: RegisterOptions,
): Promise<ServiceWorkerRegistration> => {
  checkSupport()
  return url === undefined ? await adopt(options.scope) : await register(url, options)
}

/** The registration's active worker. Waits for one that is still being installed. */
export const whenActive = async (
  registration: ServiceWorkerRegistration,
): Promise<ServiceWorker> => {
  for (;;) {
    const { active, waiting, installing } = registration
    const worker = active ?? waiting ?? installing
    if (!worker) {
      throw new TokenError(
        'worker_script_failed',
        'The service worker could not be installed. Its console says why.',
      )
    }
    if (worker.state === 'activated') return worker
    const changed = new Promise((resolve) => {
      worker.addEventListener('statechange', resolve, { once: true })
    })
    // A worker that is being replaced may be redundant and still the active one.
    await withTimeLimit(replaceLimit, changed)
  }
}

/** Resolves once the registration's worker controls this page; `claim` requests that. */
export const whenControlled = async (
  registration: ServiceWorkerRegistration,
  claim: () => Promise<unknown>,
): Promise<void> => {
  const container = navigator.serviceWorker
  const isControlled = () => container.controller === registration.active
  if (isControlled()) return
  if (!location.href.startsWith(registration.scope)) {
    throw new TokenError(
      'out_of_scope',
      `This page is outside the worker's scope ${registration.scope}, so its requests get no ` +
        'token. Put the worker script higher, or set scope.',
    )
  }
  const changed = new Promise<void>((resolve) => {
    container.addEventListener('controllerchange', () => {
      if (isControlled()) resolve()
    })
  })
  // A forced reload (Shift) leaves the page uncontrolled although the worker is active.
  await claim()
  await withTimeLimit(claimLimit, changed)
  if (isControlled()) return
  throw new TokenError('not_controlled', 'The worker did not take control. Reload.')
}
