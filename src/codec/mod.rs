//! Audio codecs and resampling, behind one small interface.
