"""From a picture to detections: model bundles, pre-processing, engines, the fallback ladder, output decoding."""
