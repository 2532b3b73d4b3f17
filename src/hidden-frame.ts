import type { FrameEnd } from './shared/protocol.js'

/**
 * Runs a hidden frame from `url` until it reaches `doneUrl`, for `limit` ms at most, and removes
 * it in every case. While the frame is at the authorization server its location cannot be read;
 * in between, the worker answers each of our own pages with a redirect.
 */
export const openHiddenFrame = (url: string, doneUrl: string, limit: number): Promise<FrameEnd> =>
  new Promise((resolve) => {
    const frame = document.createElement('iframe')
    frame.title = 'Signing in'
    frame.tabIndex = -1
    frame.setAttribute('aria-hidden', 'true')
    frame.style.display = 'none'
    // Chrome asks this of a frame that goes to a server on the user's own network.
    frame.allow = 'local-network-access *'
    let loaded = false

    const finish = (end: FrameEnd['end']) => {
      clearTimeout(timer)
      document.removeEventListener('securitypolicyviolation', onViolation)
      frame.remove()
      resolve({ end, loaded, isolated: window.crossOriginIsolated === true })
    }
    const onViolation = ({ effectiveDirective, disposition }: SecurityPolicyViolationEvent) => {
      // A policy that only reports has blocked nothing.
      if (effectiveDirective === 'frame-src' && disposition === 'enforce') finish('blocked')
    }
    const timer = setTimeout(finish, limit, 'timeout')
    document.addEventListener('securitypolicyviolation', onViolation)
    frame.addEventListener('load', () => {
      loaded = true
      try {
        if (frame.contentWindow?.location.href.startsWith(doneUrl)) finish('done')
      } catch {
        // Still at the authorization server, or at a page of the browser that says it is blocked.
      }
    })
    frame.src = url
    document.body.append(frame)
  })
