import type { FrameEnd } from './shared/protocol.js'

/**
 * Runs a hidden frame from `url` until it reaches `doneUrl`, for `limit` ms at most, and removes
 * it in every case. The page cannot read the frame's location while that is the authorization
 * server's; the worker answers each auth page in between with a redirect.
 */
export const openHiddenFrame = (url: string, doneUrl: string, limit: number): Promise<FrameEnd> =>
  new Promise((resolve) => {
    const frame = document.createElement('iframe')
    frame.title = 'Signing in'
    frame.tabIndex = -1
    frame.ariaHidden = 'true'
    frame.style.display = 'none'
    // Chrome requires this of a frame that loads a server on the user's own network or machine. The
    // last is the name before Chrome 145.
    frame.allow = 'local-network *; loopback-network *; local-network-access *'
    let loaded = false

    const finish = (end: FrameEnd['end']) => {
      clearTimeout(timer)
      document.removeEventListener('securitypolicyviolation', onViolation)
      frame.remove()
      resolve({ end, loaded, isolated: window.crossOriginIsolated === true })
    }
    const onViolation = ({ effectiveDirective, disposition }: SecurityPolicyViolationEvent) => {
      // A report-only policy blocks nothing.
      if (effectiveDirective === 'frame-src' && disposition === 'enforce') finish('blocked')
    }
    const timer = setTimeout(finish, limit, 'timeout')
    document.addEventListener('securitypolicyviolation', onViolation)
    frame.addEventListener('load', () => {
      loaded = true
      try {
        if (frame.contentWindow?.location.href.startsWith(doneUrl)) finish('done')
      } catch {
        // The frame shows the authorization server, or the browser's error page.
      }
    })
    frame.src = url
    document.body.append(frame)
  })
